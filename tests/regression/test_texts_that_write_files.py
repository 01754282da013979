"""Templates printed any text as it was: what a caller forgot to check could write CMake, JSON, YAML, C or Markdown."""

import json
import re
import string
from dataclasses import replace
from typing import Any

import jinja2
import pytest
import yaml

from mbx_deploy.codegen.languages import Verbatim, c_string, json_string, language_of, plain_text, write
from mbx_deploy.codegen.layouts import NAMES
from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.codegen.templates import environment
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.resources import firmware_templates_folder
from tests.made.tflite import small_artifact

TEMPLATES = firmware_templates_folder() / "templates"
HOSTILE = [
    'a"b', "a\\", "a\nb", "a\rb", "*/ int evil; /*", "??/", "${CMAKE_COMMAND}", "$ENV{HOME}", "$<1:x>", "a;b)", "a # b",
    "`id`", "</script><b>", "[x](javascript:1)", "| a | b", "a: b", "\x1b[2J", "\u2028", "{{ p }}", "${{", "<!--", "%s",
]  # fmt: skip
REFUSING = ("CMakeLists.txt.j2", "linker.ld.j2", "Kconfig.j2", "x.json.j2", "x.yml.j2", "x.ini.j2", "x.properties.j2")


def rendered(template: str, text: Any, name: str) -> str:
    loader = jinja2.DictLoader({name: template})
    made = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, finalize=write)
    made.filters |= {"c_string": c_string, "json_string": json_string}
    return made.get_template(name).render(x=text)


def test_every_template_is_of_a_known_language() -> None:
    found = [str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2")]
    assert len(found) > 25
    for name in found:
        language_of(name)
    with pytest.raises(ValueError, match="no known language"):
        language_of("thing.rs.j2")


def test_every_template_is_rendered_with_it() -> None:
    assert environment().finalize is write
    with pytest.raises(TypeError):
        rendered("{{ x }}", ["a"], "a.c.j2")
    with pytest.raises(TypeError):
        rendered("{{ x }}", True, "a.c.j2")
    with pytest.raises(jinja2.UndefinedError):
        rendered("{{ y }}", "", "a.c.j2")
    assert rendered('{{ "a" if x }}{{ 1.5 }}{{ x }}', 0, "a.md.j2") == "1.50"
    assert rendered("{{ x }}", Verbatim('*/"'), "a.c.j2") == '*/"'


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_text_can_bring_into_each_language(text: str) -> None:
    for name in REFUSING:
        if not set(text) <= set(string.ascii_letters + string.digits + " _.,:;+=/'()-"):
            with pytest.raises(InputError, match="can't stand in a generated file"):
                rendered("{{ x }}", text, name)
    in_c = rendered("/* {{ x }} */", text, "a.c.j2")
    assert in_c.count("*/") == in_c.count("/*") == 1 and "\\" not in in_c and "??" not in in_c
    assert in_c.isascii() and in_c.isprintable() and '"' not in in_c
    literal = rendered("{{ x | c_string }}", text, "a.c.j2")
    assert literal.isascii() and literal.isprintable() and re.fullmatch(r'"([^"\\?]|\\[0-7]{3})*"', literal)
    assert json.loads(rendered("{{ x | json_string }}", text, "a.json.j2")) == text
    assert yaml.safe_load(rendered("a: {{ x | json_string }}", text, "a.yml.j2")) == {"a": text}
    in_html = rendered('<a title="{{ x }}">{{ x }}</a>', text, "a.html.j2")
    assert in_html.count("<") == in_html.count(">") == 2 and in_html.count('"') == 2
    in_markdown = rendered("| {{ x }} | b |", text, "a.md.j2")
    bare = re.sub(r"\\.", "", in_markdown)
    assert bare.count("|") == 3 and not set("`<>[]*~&\n\x1b\u2028") & set(bare)
    assert rendered("{{ x }}", "# title", "a.md.j2") == "\\# title"


@pytest.fixture(scope="module")
def small() -> CompiledModel:
    labels = [f"word{number}" for number in range(len(HOSTILE))]
    return parse_model(small_artifact(FrontendConfig(), labels), "small").for_kernels("dsp")


@pytest.mark.parametrize("layout", NAMES)
def test_projects_hold_no_more_than_they_should(small: CompiledModel, layout: str) -> None:
    """What read_target() and load_model() refuse, given to the generator all the same."""
    target = find_target("cortex-m4")
    plain = generate_project(small, target, layout=layout)
    assert small.hearing is not None
    model = replace(small, hearing=replace(small.hearing, labels=tuple(HOSTILE)))
    files = generate_project(model, replace(target, description="".join(HOSTILE)), "on", layout=layout)
    assert len(files) == len(plain)
    for (name, content), expected in zip(files.items(), plain.values(), strict=True):
        if not isinstance(content, str) or not isinstance(expected, str) or name.endswith(".toml"):
            continue
        if name.endswith(".json"):
            json.loads(content)
        if name.endswith((".yml", ".yaml")):
            assert yaml.safe_load(content).get("name", "on") == "on"
        if name.endswith(("CMakeLists.txt", ".cmake", ".ld", "Kconfig", ".conf", ".ini", ".json", ".yml", ".yaml")):
            assert content == re.sub("KWS", "ON", re.sub("kws", "on", expected)), name
        # A line for a line: nothing began one of its own.
        assert content.count("\n") == expected.count("\n"), name
        if name.endswith((".c", ".h")):
            comments = "".join(re.findall(r"/\*.*?\*/", content, re.DOTALL))
            assert not any(text in comments for text in HOSTILE if plain_text(text) != text)


@pytest.mark.parametrize("changed", [{"compile_flags": ('-DA="', )}, {"optimization": "-O2\ninclude(x)"},
    {"compile_flags": ("-DA=${B}",)}, {"optimization": "$<1:x>"}])  # fmt: skip
def test_a_flag_is_refused_rather_than_changed(small: CompiledModel, changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="can't stand"):
        generate_project(small, replace(find_target("cortex-m4"), **changed))
