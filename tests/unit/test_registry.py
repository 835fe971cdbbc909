"""Registries: names, what is refused, and third parties' entry points."""

import copy
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nasframe
from nasframe.algorithms.weights_only import WeightsOnly
from nasframe.errors import ComponentError, FaultWarning, FormerNameWarning, SettingError
from nasframe.registry import Component, Registry, UnknownNameError, registries, registry_for
from nasframe.types import PositiveInt


class Engine:
    """What the components of the tests' own registry are."""

    def __init__(self, *, power: int = 1) -> None:
        self.power = power


@pytest.fixture
def engines() -> Iterator[Registry[Engine]]:
    yield Registry("test_engines", Engine)
    del registries["test_engines"]


BROKEN = "raise RuntimeError('no fuel')"
GOOD = """
    class Engine:
        'A third party.'
        def __init__(self, *, power: int = 7) -> None:
            self.power = power
"""


def test_what_is_registered_is_found_by_name(engines: Registry[Engine]) -> None:
    engines.register("plain")(Engine)
    assert engines["plain"] is Engine
    assert engines.names() == list(engines) == ["plain"]
    assert "plain" in engines
    assert len(engines) == 1
    assert registry_for(Engine) is engines


def test_a_component_is_built_from_its_settings(engines: Registry[Engine]) -> None:
    engines.register("plain")(Engine)
    assert engines.component("plain", power=3)().power == 3


def test_components_are_values(engines: Registry[Engine]) -> None:
    component = engines.component("plain", power=3)
    assert component == Component("test_engines", "plain", {"power": 3})
    assert copy.deepcopy(component) == component
    assert pickle.loads(pickle.dumps(component)) == component
    with pytest.raises(TypeError):
        component.settings["power"] = 4  # type: ignore[index]


def test_a_taken_name_is_refused(engines: Registry[Engine]) -> None:
    engines.register("plain")(Engine)
    with pytest.raises(ComponentError, match=r"`plain` is taken by .*Engine"):
        engines.register("plain")(Engine)


@pytest.mark.parametrize("name", ["", "two words", "a.b", "a=b"])
def test_a_name_that_no_recipe_could_say_is_refused(engines: Registry[Engine], name: str) -> None:
    with pytest.raises(ComponentError, match="a name must be"):
        engines.register(name)


def test_the_decorator_without_a_name_is_refused(engines: Registry[Engine]) -> None:
    with pytest.raises(ComponentError, match="a name must be"):
        engines.register(Engine)  # type: ignore[arg-type]


def test_positional_parameters_that_the_framework_does_not_give_are_refused(
    engines: Registry[Engine],
) -> None:
    def make(fuel: str) -> Engine: ...

    with pytest.raises(ComponentError, match=r"must take nothing by position, but takes \(fuel\)"):
        engines.register("make")(make)


def test_two_registries_of_one_name_are_refused(engines: Registry[Engine]) -> None:
    with pytest.raises(ComponentError, match="exists already"):
        Registry("test_engines", Engine)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others(engines: Registry[Engine]) -> None:
    engines.register("plain")(Engine)
    with pytest.raises(UnknownNameError, match="did you mean `plain`") as caught:
        engines["plian"]
    assert caught.value.names == ["plain"]
    assert caught.value.nearest == "plain"


def test_built_ins_are_found_from_python() -> None:
    assert nasframe.registries["algorithms"]["weights_only"] is WeightsOnly
    assert nasframe.registries["algorithms"].origin("weights_only") == "nasframe"


def test_the_names_of_third_parties_are_known_without_importing_them(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    folder = third_party("stranger", GOOD, test_engines="odd = Engine")
    (module,) = (path.stem for path in folder.glob("*.py"))
    assert engines.names() == ["odd"]
    assert engines.origin("odd") == "stranger 1.0"
    assert module not in sys.modules
    assert engines["odd"].__module__ == module


def test_a_third_party_is_imported_when_its_name_is_used(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    third_party("stranger", GOOD, test_engines="odd = Engine")
    assert engines.component("odd")().power == 7
    assert engines["odd"] is engines["odd"]
    assert engines.signature("odd").summary == "A third party."


def test_a_third_party_whose_import_does_not_end_is_named_while_one_waits(
    engines: Registry[Engine], third_party: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasframe.declarations._LONG_SECONDS", 0.01)
    third_party("stranger", f"{GOOD}\n    import time\n    time.sleep(0.3)\n", test_engines="odd = Engine")
    with pytest.warns(
        FaultWarning, match=r"test_engines: `odd` of stranger 1\.0 is still being imported after 0\.01 s"
    ):
        engines["odd"]


def test_a_third_party_may_also_register_by_decorator(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    source = """
        from nasframe.registry import registries
        engines = registries["test_engines"]
        @engines.register("one")
        class One: ...
        @engines.register("two")
        class Two: ...
    """
    folder = third_party("stranger", source, test_engines="one = One")
    module = next(folder.glob("stranger_*.py")).stem
    with (folder / "stranger-1.0.dist-info" / "entry_points.txt").open("a") as file:
        file.write(f"two = {module}:Two\n")
    assert [engines[name].__name__ for name in ("one", "two", "one")] == ["One", "Two", "One"]


def test_a_third_party_that_fails_breaks_nothing_but_its_own_name(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    engines.register("plain")(Engine)
    third_party("stranger", BROKEN, test_engines="odd = Engine")
    assert engines["plain"] is Engine
    for _ in range(2):
        with pytest.raises(ComponentError, match=r"`odd` of stranger 1\.0 .*RuntimeError: no fuel"):
            engines["odd"]


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "import not_there", "x = 1", "Engine = 3"])
def test_each_way_to_fail_is_told(
    engines: Registry[Engine], third_party: Callable[..., Path], source: str
) -> None:
    third_party("stranger", source, test_engines="odd = Engine")
    with pytest.raises(ComponentError, match="odd"):
        engines["odd"]


def test_what_a_failing_third_party_registered_is_forgotten(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    source = """
        from nasframe.registry import registries
        @registries["test_engines"].register("half")
        class Half: ...
        raise RuntimeError("no fuel")
    """
    third_party("stranger", source, test_engines="odd = Half")
    with pytest.raises(ComponentError):
        engines["odd"]
    assert engines.names() == ["odd"]


def test_two_distributions_that_claim_a_name_are_both_told_when_it_is_used(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    third_party("stranger", GOOD, test_engines="odd = Engine")
    third_party("other", GOOD, test_engines="odd = Engine")
    assert engines.names() == ["odd"]
    with pytest.raises(ComponentError, match=r"claimed by other 1\.0 and stranger 1\.0"):
        engines["odd"]


def test_a_third_party_that_takes_a_built_ins_name_is_told_when_it_is_used(
    third_party: Callable[..., Path],
) -> None:
    third_party("stranger", GOOD, schedules="constant = Engine")
    schedules = registries["schedules"]
    with pytest.raises(ComponentError, match=r"claimed by nasframe and stranger 1\.0"):
        schedules["constant"]
    assert callable(schedules["cosine"])


def test_metadata_that_cannot_be_read_breaks_no_other_distribution(
    engines: Registry[Engine], third_party: Callable[..., Path]
) -> None:
    folder = third_party("stranger", GOOD, test_engines="odd = Engine")
    broken = folder / "half-1.0.dist-info"
    broken.mkdir()
    (broken / "entry_points.txt").write_text("not an ini file")
    malformed = folder / "malformed-1.0.dist-info"
    malformed.mkdir()
    (malformed / "entry_points.txt").write_text("[nasframe.test_engines]\nbad = ?? %(x)s\n")
    assert engines["odd"]().power == 7  # type: ignore[attr-defined]
    with pytest.raises(ComponentError, match=r"`bad` of malformed 1\.0"):
        engines["bad"]


def test_a_former_name_finds_the_component_and_says_so(engines: Registry[Engine]) -> None:
    engines.register("plain", formerly=["simple"])(Engine)
    assert engines.current("simple") == engines.current("plain") == "plain"
    assert engines.names() == ["plain"]
    with pytest.warns(FormerNameWarning, match="`simple` is called `plain` now"):
        assert engines["simple"] is Engine


@pytest.mark.parametrize(
    ("first", "second"), [({"name": "a"}, {"formerly": ["a"]}), ({"formerly": ["b"]}, {"name": "b"})]
)
def test_a_name_cannot_be_a_component_and_a_former_one(
    engines: Registry[Engine], first: dict[str, Any], second: dict[str, Any]
) -> None:
    engines.register(**{"name": "x", **first})(Engine)
    with pytest.raises(ComponentError, match="cannot be a component and a former name of another"):
        engines.register(**{"name": "y", **second})(Engine)


def test_a_component_that_is_gone_says_what_to_do(engines: Registry[Engine]) -> None:
    engines.register("plain")(Engine)
    engines.remove("steam", "take `plain`, which does the same")
    with pytest.raises(UnknownNameError, match="no `steam`; take `plain`, which does the same"):
        engines["steam"]


def test_a_class_stays_itself_and_a_function_its_signature_when_they_check(engines: Registry[Engine]) -> None:
    class Own(Engine):
        def __init__(self, *, power: PositiveInt = 1) -> None:
            super().__init__(power=power)

    def own(*, power: PositiveInt = 1) -> Engine:
        return Engine(power=power)

    assert engines.register("own")(Own) is Own
    built = engines.register("built")(own)
    assert engines["built"] is built
    assert inspect.signature(built) == inspect.signature(own)
    for factory in (Own, built):
        assert factory(power=3).power == 3
        with pytest.raises(SettingError, match=r"`(own|built)`: power must be greater than 0, got -3"):
            factory(power=-3)


def test_what_is_built_by_hand_gets_what_a_recipe_would_give(engines: Registry[Engine]) -> None:
    @engines.register("keeping")
    class Keeping(Engine):
        def __init__(
            self,
            *,
            sizes: tuple[int, ...] = (),
            file: Path = Path(),
            inner: Component[Engine] | None = None,
            more: tuple[Component[Engine], ...] = (),
            named: dict[str, Component[Engine]] = {},  # noqa: B006
            what: Any = None,
        ) -> None:
            self.given = (sizes, file, inner, more, named, what)

    part, what = engines.component("keeping", sizes=(1,)), object()
    built = Keeping(sizes=[1, 2], file="x", inner=part, more=[part], named={"a": part}, what=what)  # type: ignore[arg-type]
    assert built.given == ((1, 2), Path("x"), part, (part,), {"a": part}, what)
    for wrong, said in (
        ({"inner": engines.component("keeping", sizes="x")}, "inner.sizes must be a list"),
        (
            {"more": [part, engines.component("keeping", size=1)]},
            "more.1.size: `keeping` has no such setting",
        ),
        ({"named": {"a": engines.component("kept")}}, "named.a must be one of the test_engines, got `kept`"),
        ({"more": part}, "more must be a list of Engine component"),
        ({"inner": Component("schedules", "constant")}, "inner must be a component of the test_engines"),
    ):
        with pytest.raises(SettingError, match=f"`keeping`: {said}"):
            Keeping(**wrong)  # type: ignore[arg-type]


def test_what_third_parties_declare_is_checked_by_hand_too(third_party: Callable[..., Path]) -> None:
    source = """
        from nasframe.types import PositiveInt
        class Engine:
            def __init__(self, *, power: PositiveInt): ...
        def make(*, power: PositiveInt): return power
    """
    third_party("classy", source, schedules="unit_classy = Engine")
    third_party("functional", source, schedules="unit_functional = make")
    for name in ("unit_classy", "unit_functional"):
        with pytest.raises(SettingError, match=f"schedules: `{name}`: power must be greater than 0, got 0"):
            registries["schedules"][name](power=0)
    assert registries["schedules"]["unit_functional"](power=2) == 2
