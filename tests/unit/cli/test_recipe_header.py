"""The comment that a shipped recipe opens with."""

from nasframe.cli.shipped import header_of


def test_fields_are_read_with_the_lines_that_go_on() -> None:
    text = "# What:     a thing\n#           and more\n# Source: them: there\n\n# Time: later\nname: x\n"
    assert header_of(text) == {"what": "a thing and more", "source": "them: there"}


def test_a_recipe_without_header_has_no_fields() -> None:
    assert header_of("name: x\n") == {}
