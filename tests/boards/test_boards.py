"""Boards: they build, fit, have the vector table that the manual says, and carry the bytes that a flash takes.

What runs is the same library in an emulator; the microphones' registers nobody can run here.
"""

import re
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from mbx_deploy.codegen.target import Target, find_target, list_targets
from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.firmware import FirmwareEngine
from mbx_deploy.engines.session import ITEM_CLIP, TRACE_LAYERS, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.compile import too_large
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.firmware.image import boot2_checksum, read_flash_image
from mbx_deploy.measure.profile.profile import profile_build
from mbx_deploy.system.resources import part_folders, shipped_model_path
from mbx_deploy.system.tools import find_tool
from tests.made.elf import Elf

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BOARDS = [target for target in list_targets() if target.is_board]
pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("cmake") is None, reason="cmake is not installed"),
]

# From the manuals, by hand: interrupts in all, and the numbers of those that our drivers use.
VECTORS = {
    "arduino-nano-33-ble-sense": (48, {2: "mbx_interrupt_uart", 29: "mbx_interrupt_pdm"}),
    "nrf52840-dk": (48, {2: "mbx_interrupt_uart", 29: "mbx_interrupt_pdm"}),
    "xiao-nrf52840-sense": (48, {2: "mbx_interrupt_uart", 29: "mbx_interrupt_pdm"}),
    "arduino-nano-rp2040-connect": (32, {11: "mbx_interrupt_dma", 20: "mbx_interrupt_uart"}),
    "raspberry-pi-pico": (32, {11: "mbx_interrupt_dma", 20: "mbx_interrupt_uart"}),
    "stm32f4-discovery": (82, {14: "mbx_interrupt_dma", 38: "mbx_interrupt_uart"}),
}
# Where a UF2 begins, and the family of its chip: of uf2families.json of the UF2 specification.
UF2_PLACES = {
    "raspberry-pi-pico": (0x10000000, 0xE48BFF56),
    "arduino-nano-rp2040-connect": (0x10000000, 0xE48BFF56),
    "xiao-nrf52840-sense": (0x27000, 0xADA52840),
}
SYSTEM_HANDLERS = (2, 3, 4, 5, 6, 11, 12, 14, 15)


@pytest.fixture(scope="module", params=BOARDS, ids=[target.name for target in BOARDS])
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    target: Target = request.param
    folder = tmp_path_factory.mktemp("boards") / target.name
    build(shipped_model_path(), target, folder)
    return load_build(folder)


def test_all_boards_are_tried() -> None:
    assert {target.name for target in BOARDS} == set(VECTORS)


def test_the_vector_table(board: Build) -> None:
    count, handlers = VECTORS[board.target.name]
    memory = board.target.memory
    assert memory is not None
    elf = Elf(board.elf)
    table = elf.sections[".vectors"]
    words = elf.words(".vectors")
    assert len(words) == 16 + count
    assert table.address % (1 << (len(table.data) - 1).bit_length()) == 0  # VTOR's alignment, DDI 0403E B3.2.5
    assert words[0] == memory.ram_origin + memory.ram_bytes and words[0] % 8 == 0
    assert words[1] == elf.symbols["mbx_reset"] | 1 == elf.entry | 1
    fault = elf.symbols["mbx_fault"] | 1
    for number in range(2, 16):
        assert words[number] == (fault if number in SYSTEM_HANDLERS else 0), number
    for number in range(count):
        name = handlers.get(number)
        assert words[16 + number] == (elf.symbols[name] | 1 if name else fault), number


def test_sections_lie_in_their_memories(board: Build) -> None:
    memory = board.target.memory
    assert memory is not None
    elf = Elf(board.elf)
    flash = range(memory.flash_origin, memory.flash_origin + memory.flash_bytes)
    ram = range(memory.ram_origin, memory.ram_origin + memory.ram_bytes)
    copied = board.target.run_from == "ram"
    for name in (".vectors", ".text", *(() if copied else (".rodata",))):
        section = elf.sections[name]
        assert section.address in flash and section.address + len(section.data) in flash, name
    for name in ((".code", ".constants") if copied else ()) + (".data", ".bss"):
        section = elf.sections[name]
        assert section.address in ram and section.address + len(section.data) <= ram.stop - memory.stack_bytes, name
    first = ".boot2" if ".boot2" in elf.sections else ".vectors"
    assert elf.sections[first].address == memory.flash_origin
    load = elf.symbols["mbx_data_load"]
    assert load in flash
    image = read_flash_image(board.elf.read_bytes())
    data = elf.sections[".data"].data
    if copied:
        assert elf.sections[".text"].address in flash and len(elf.sections[".text"].data) < 2048  # start-up alone
        data = b"".join(elf.sections[name].data for name in (".code", ".constants"))
        load_end = elf.symbols["mbx_data_end"] - elf.symbols["mbx_data_start"]
        assert load_end >= len(data) and elf.symbols["mbx_data_start"] == elf.sections[".code"].address
    assert image.data[load - image.origin :][: len(data)] == data
    assert image.origin == memory.flash_origin
    assert elf.symbols["mbx_bss_end"] - elf.symbols["mbx_bss_start"] == len(elf.sections[".bss"].data)


def objcopy(elf: Path, kind: str, output: Path) -> bytes:
    subprocess.run(["arm-none-eabi-objcopy", "-O", kind, str(elf), str(output)], check=True)
    return output.read_bytes()


def test_the_images_hold_what_objcopy_says(board: Build, tmp_path: Path) -> None:
    binary = objcopy(board.elf, "binary", tmp_path / "binary")
    assert board.target.images
    for kind in board.target.images:
        path = board.elf.with_suffix(f".{kind}")
        if kind == "bin":
            assert path.read_bytes() == binary
        if kind == "hex":  # read back by a tool that is not ours
            command = ["arm-none-eabi-objcopy", "-I", "ihex", "-O", "binary", str(path), str(tmp_path / "back")]
            subprocess.run(command, check=True)
            assert (tmp_path / "back").read_bytes() == binary
            assert set(objcopy(board.elf, "ihex", tmp_path / "hex").split()) >= {path.read_bytes().split()[-1]}


def test_the_second_stage_of_the_rp2040() -> None:
    """CRC-32/MPEG-2, whose published check value is 0x0376E6E7; a flipped bit changes it."""
    assert crc32_msb_first(b"123456789") == 0x0376E6E7
    code = bytes(range(252))
    assert boot2_checksum(code) == crc32_msb_first(code) != crc32_msb_first(b"\1" + code[1:])
    with pytest.raises(ValueError, match="251 bytes, need 252"):
        boot2_checksum(code[1:])


def crc32_msb_first(data: bytes) -> int:
    """Return the CRC by another road: zlib's is the same polynomial with bits and result reflected."""
    reflected = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{zlib.crc32(reflected) ^ 0xFFFFFFFF:032b}"[::-1], 2)


def test_the_second_stage_in_the_picos_flash(board: Build) -> None:
    if "rp2040" not in board.target.parts:
        assert ".boot2" not in Elf(board.elf).sections
        return
    elf = Elf(board.elf)
    stage = elf.sections[".boot2"]
    assert stage.address == 0x10000000 and len(stage.data) == 256
    assert struct.unpack("<I", stage.data[252:])[0] == boot2_checksum(stage.data[:252])
    assert elf.sections[".vectors"].address == 0x10000100
    assert struct.pack("<I", 0x10000100) in stage.data  # where it enters the program
    assert elf.symbols["blocks"] % 4096 == 0 and elf.sizes["blocks"] == 2 * 4096  # the DMA wraps at 2^12


def test_the_uf2_is_the_image(board: Build) -> None:
    if "uf2" not in board.target.images:
        assert not board.elf.with_suffix(".uf2").exists()
        return
    data = board.elf.with_suffix(".uf2").read_bytes()
    image = read_flash_image(board.elf.read_bytes())
    assert len(data) % 512 == 0
    content = b""
    for number in range(len(data) // 512):
        head = struct.unpack_from("<8I", data, number * 512)
        assert head[:3] == (0x0A324655, 0x9E5D5157, 0x2000)
        origin, family = UF2_PLACES[board.target.name]
        assert head[3:] == (origin + 256 * number, 256, number, len(data) // 512, family)
        assert struct.unpack_from("<I", data, number * 512 + 508)[0] == 0x0AB16F30
        content += data[number * 512 + 32 :][:256]
    assert content[: len(image.data)] == image.data and set(content[len(image.data) :]) <= {0xFF}


def test_the_library_runs_in_the_emulator_and_on_this_machine(board: Build) -> None:
    if find_tool("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    recognizer = board.model
    samples = fit_clip(read_recording(EXAMPLES / "yes.wav").samples, recognizer.config.clip_samples)
    items = [Item(ITEM_CLIP, samples)]
    expected = SimEngine(recognizer).run(items, TRACE_LAYERS)[0][0]
    for engine in (FirmwareEngine(recognizer, board.elf, board.target), HostEngine(recognizer, board.files, ("-O1",))):
        got = engine.run(items, TRACE_LAYERS)[0][0]
        assert got.logits.tobytes() == expected.logits.tobytes()
        assert all(got.stages[name].tobytes() == values.tobytes() for name, values in expected.stages.items())


def test_the_emulated_library_is_the_boards(board: Build) -> None:
    """The functions of network and front end are in both, of the same sizes."""
    ours, emulated = (Elf(board.elf.with_name(name)) for name in ("firmware.elf", "emulator.elf"))
    names = [name for name in ours.symbols if re.match(r"mbx_(feed|run|init|pointwise|depthwise|add|mean|frame)", name)]
    assert len(names) >= 8
    assert {name: ours.sizes[name] for name in names} == {name: emulated.sizes.get(name) for name in names}


def test_no_heap_no_floats_no_printf(board: Build) -> None:
    names = set(Elf(board.elf).symbols)
    assert not names & {"malloc", "free", "_sbrk", "printf", "logf", "expf"}
    assert not [name for name in names if re.match(r"__aeabi_[fd](add|mul|sub|div|2)", name)]


@pytest.mark.parametrize(
    ("ram_bytes", "what"), [(61_440, "does not fit the RAM of small: need "), (98_000, "and its stack do not fit the")]
)
def test_a_firmware_that_does_not_fit_says_so(ram_bytes: int, what: str, tmp_path: Path) -> None:
    """The recogniser does, the board's queue and buffers beside it do not: only the linker knows."""
    text = find_target("stm32f4-discovery").text.replace("ram_bytes = 131_072", f"ram_bytes = {ram_bytes}")
    (tmp_path / "small.toml").write_text(text.replace('name = "stm32f4-discovery"', 'name = "small"'))
    with pytest.raises(InputError) as caught:
        build(shipped_model_path(), find_target(str(tmp_path / "small.toml")), tmp_path / "b")
    assert what in caught.value.what and f"have {ram_bytes:,}" in caught.value.what and caught.value.hint
    assert not (tmp_path / "b").exists()


def test_what_a_linker_says_of_the_flash() -> None:
    output = "arm-none-eabi/bin/ld: region `FLASH' overflowed by 1234 bytes\ncollect2: error: ld returned 1 exit status"
    error = too_large(output, find_target("nrf52840-dk"))
    assert error is not None
    assert error.what == "the firmware does not fit the flash of nrf52840-dk: need 1,049,810 bytes, have 1,048,576"
    assert too_large("main.c:1: error: region", find_target("nrf52840-dk")) is None


@pytest.mark.parametrize("target", BOARDS, ids=[target.name for target in BOARDS])
def test_the_file_of_a_board_says_what_its_code_does(target: Target) -> None:
    folders = [part_folders()[part] for part in (*target.parts, target.board)]
    text = "".join(path.read_text() for folder in folders for path in sorted(folder.glob("*.[ch]")))
    gain = re.search(r"#define MBX_MICROPHONE_GAIN_Q4 (\d+)", text)
    microphone = target.microphone
    assert gain and microphone
    assert abs(16 * 10 ** (microphone.gain_db / 20) - int(gain[1])) < 1
    readme = (folders[-1] / "README.md").read_text()
    assert f"{target.uart_baud:,} baud" in readme and f"{microphone.gain_db} dB" in readme
    assert re.search(r"Nobody has\s+run this on the board|Not tried: neither on the board", readme)
    assert any(f"firmware.{kind}" in readme for kind in target.images)


def test_a_board_needs_its_parts(tmp_path: Path) -> None:
    from mbx_deploy.codegen.target import read_target

    good = find_target("nrf52840-dk").text.replace('name = "nrf52840-dk"', 'name = "some"')
    for pattern, say in (
        (r"\[microphone\]\n(\w+ = .*\n)+", "microphone"),
        (r"\[probe\]\n(\w+ = .*\n)+", "probe"),
        (r"\[emulator\]\n(\w+ = .*\n)+", "emulator"),
        (r"gain_db = 20\n", "gain_db"),
        (r"uart_baud = .*\n", "uart_baud"),
    ):
        text, count = re.subn(pattern, "", good, count=1)
        assert count == 1
        (tmp_path / "some.toml").write_text(text)
        with pytest.raises(InputError, match=rf"some\.toml.*{say}"):
            read_target(tmp_path / "some.toml")
    for key, value in (
        ("method", '"telepathy"'),
        ("target", '"../cortex-m4"'),
        ("target", '"cortex-m0plus"'),
        ("target", '"nrf52840-dk"'),
        ("parts", '["application", "../session"]'),
        ("images", '["exe"]'),
        ("gain_db", "99"),
        ("uart_baud", "1"),
    ):
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", good, count=1, flags=re.M)
        assert count == 1
        (tmp_path / "some.toml").write_text(text)
        with pytest.raises(InputError, match=rf"some\.toml.*{key}"):
            read_target(tmp_path / "some.toml")
    (tmp_path / "some.toml").write_text(good.replace("gain_db = 20", "gain_db = 20\ncolour = 1"))
    with pytest.raises(InputError, match=r"unknown key.*colour"):
        read_target(tmp_path / "some.toml")


def test_a_profile_is_of_the_elf_that_ran(board: Build) -> None:
    """Once the stack that was measured in the emulator's ELF stood beside the bound of the board's, and a core's cycles
    were called a Cortex-M4's.
    """
    if board.target.name != "raspberry-pi-pico":  # one board is enough
        return
    if find_tool("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    found = profile_build(board)
    assert 0 < found.stack_bytes <= found.firmware["stack_bound_bytes"]
    assert found.cpu == "cortex-m0plus" and "Cortex-M0+" in found.cycles_note
    assert 1.2 < found.network.cycles_estimate / found.network.instructions < 1.6  # 1.37 in an emulator with cycles
