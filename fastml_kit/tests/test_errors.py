"""Messages name what is wrong, the choices, and the nearest one."""

from fastml_kit.errors import nearest, unknown_name


def test_unknown_name_lists_the_choices_and_the_nearest():
    error = unknown_name("backend", "hlsml", ["hls4ml", "da4ml"])
    assert str(error) == "no backend 'hlsml'. Did you mean 'hls4ml'? Choices: da4ml, hls4ml."


def test_what_is_near_nothing_gets_no_guess():
    assert nearest("zzz", ["hls4ml", "da4ml"]) == ""
