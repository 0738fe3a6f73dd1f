import pytest

from tests.vt_oracle import intruders


@pytest.mark.parametrize(
    "intruder",
    [
        *(b"\x1b]52;c;aGk=\x07", b"\x1b]0;title\x07", b"\x1b]8;;http://x\x1b\\", b"\x1b]133;A\x1b\\"),
        *(
            b"\x1b[2;3r",
            b"\x1b[?5h",
            b"\x1b[5i",
            b"\x1b[31",
            b"\x1bc",
            b"\x1b(0",
            b"\x1bP1$q\x1b\\",
            b"\x1b_x\x1b\\",
        ),
        *(
            b"\x07",
            b"\x08",
            b"\x7f",
            b"\x00",
            b"\x9b31m",
            b"\xc2\x9b31m",
            "\u202e".encode(),
            "\U000e0041".encode(),
        ),
    ],
)
def test_what_we_never_write_is_found(intruder: bytes) -> None:
    assert intruders(b"fine " + intruder + b" fine")


@pytest.mark.parametrize(
    "meant",
    [
        "plain 中文 👍",
        "\x1b[12;3H",
        "\x1b[1;38;2;1;2;3;48;2;4;5;6mx\x1b[0m",
        "\x1b[?1049h",
        "\x1b[?2026$p",
        "a\r\nb",
    ],
)
def test_what_we_mean_to_write_is_let_through(meant: str) -> None:
    assert intruders(meant.encode()) == []
