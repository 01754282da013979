"""The page that tries the shipped model, made for the site when it is built: a hook of MkDocs."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from mbx_deploy.codegen.page import render_page
from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import load_model
from mbx_deploy.engines.browser import BROWSER, compile_module
from mbx_deploy.errors import ToolMissing
from mbx_deploy.firmware.folder import DEFAULT_PREFIX
from mbx_deploy.system.resources import DEFAULT_MODEL, shipped_model_path

PLACE = f"try/{DEFAULT_MODEL}.html"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to the site's files; without clang one that says what it lacks."""
    files.append(File.generated(config, PLACE, content=try_page()))
    return files


def try_page() -> str:
    """Return the page of the shipped model, that of `mbx-deploy build --target browser`."""
    model = load_model(shipped_model_path())
    try:
        module = compile_module(model).read_bytes()
    except ToolMissing as error:
        return f"<!DOCTYPE html><html lang=en><title>not made</title><p>This page was not made: {error.what}.\n"
    return render_page(model, find_target(BROWSER), DEFAULT_PREFIX, DEFAULT_STRIDE_FRAMES, module)
