"""What settings came to where a stage trains, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class ActiveSetting:
    """What a setting came to.

    Attributes:
        name: As in the recipe, such as ``compile``.
        value: What holds, such as ``off``.
        reason: Why.
    """

    name: str
    value: str
    reason: str


def active_table(by_stage: Mapping[str, Sequence[ActiveSetting]]) -> tuple[list[str], list[list[str]]]:
    """A header, and a row for each setting; stages share one where value and reason are the same."""
    stages: dict[ActiveSetting, list[str]] = {}
    for stage, settings in by_stage.items():
        for setting in settings:
            stages.setdefault(setting, []).append(stage)
    order = list(dict.fromkeys(setting.name for setting in stages))
    rows = [
        [each.name, each.value, ", ".join(of), each.reason]
        for each, of in sorted(stages.items(), key=lambda item: order.index(item[0].name))
    ]
    return ["setting", "active", "stage", "why"], rows
