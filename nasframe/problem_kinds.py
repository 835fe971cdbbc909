"""The kinds of problem that a recipe can have: one table, with a code, a reason and examples for each.

Codes are public: one is never given to another kind. Their tens group them: 00 the recipe's file, 01 YAML,
02 includes, 03 overrides, 04 references, 05 keys, 06 values, 07 names, 08 parts that must fit together,
09 this machine, 10 parts that cannot be built, 11 explorers and what they need beside them, 12 parts of a
method, 13 the health of a search, 14 its stages.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final


@final
@dataclass(frozen=True)
class Example:
    """A recipe that stands in a folder with other files.

    Attributes:
        recipe: Its text; null where there is no such file.
        overrides: What is said on the command line.
        plugins: Files of `files` that are imported by ``--plugin``.
        files: Other files of the folder, by path. It is on the Python path, so that files ending in
            ``.dist-info/entry_points.txt`` make an installed package of it.
    """

    recipe: str | None
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class ProblemKind:
    """What several problems have in common.

    Attributes:
        code: Such as ``NF012``.
        means: What is wrong, in one sentence.
        why: Why the rule is there, and what to do.
        wrong: Gives problems of this kind and of no other.
        right: Loads.
    """

    code: str
    means: str
    why: str
    wrong: Example
    right: Example


KINDS: Final[dict[str, ProblemKind]] = {}
"""Every kind by its code, in the order of the codes."""


def _kind(code: str, means: str, why: str, *, wrong: str | Example, right: str | Example) -> ProblemKind:
    examples = [Example(each) if isinstance(each, str) else each for each in (wrong, right)]
    KINDS[code] = ProblemKind(code, means, " ".join(why.split()), *examples)
    return KINDS[code]


_TINY: Final = "name: mine\ndata: digits\nspace: darts\n"
_DEVICE_OF_OTHERS: Final = "cuda" if sys.platform == "darwin" else "mps"

# the recipe's file

NO_RECIPE = _kind(
    "NF001",
    "There is no such recipe.",
    """The recipe must be a file, or the name of one that comes with nasframe. `nasframe recipes` lists
    those; `nasframe copy NAME` gives one to edit.""",
    wrong=Example(None),
    right=_TINY,
)
UNREADABLE_FILE = _kind(
    "NF002",
    "A file cannot be read as text.",
    """A recipe is text in UTF-8 that this user may read. Save it as UTF-8, and look at its permissions.""",
    wrong=_TINY.replace("mine", "caf\udce9"),
    right=_TINY.replace("mine", "café"),
)
TOO_LARGE = _kind(
    "NF003",
    "A recipe is larger than recipes may be.",
    """Characters, values (each alias counted in full) and depth are bounded, so that no recipe can take all
    memory or time. Data belongs into files that a setting names.""",
    wrong=f"{_TINY}export: {'[' * 50}{']' * 50}\n",
    right=f"{_TINY}export: []\n",
)
NOT_A_RECIPE = _kind(
    "NF004",
    "A recipe is no mapping.",
    "A recipe says `key: value`, one below the other; the file holds something else, or nothing.",
    wrong="- name: mine\n- data: digits\n- space: darts\n",
    right=_TINY,
)
UNUSABLE_MODULE = _kind(
    "NF005",
    "A module that `--plugin` names cannot be imported.",
    """It registers components, so it is imported before the recipe is read. The message says what Python
    said; try `python FILE.py`.""",
    wrong=Example(_TINY, plugins=("mine.py",), files={"mine.py": "from nasframe.core import Scheduler\n"}),
    right=Example(_TINY, plugins=("mine.py",), files={"mine.py": "from nasframe.core import Schedule\n"}),
)

# YAML

NOT_YAML = _kind(
    "NF011",
    "The text is not YAML.",
    """The message says what the parser met and where. Mostly it is a bracket or quote that is not closed, a
    tab, or a line that is not as far in as its neighbours.""",
    wrong=f"{_TINY}search: {{trainer: {{epochs: 3}}\n",
    right=f"{_TINY}search: {{trainer: {{epochs: 3}}}}\n",
)
REPEATED_KEY = _kind(
    "NF012",
    "A key stands twice in one mapping.",
    """Most readers of YAML take the last one and say nothing, so that one of two wishes is dropped. Keep one
    of them, or write both below one key.""",
    wrong=f"{_TINY}search: {{trainer: {{epochs: 3}}}}\nsearch: {{mixed_op: softmax}}\n",
    right=f"{_TINY}search: {{trainer: {{epochs: 3}}, mixed_op: softmax}}\n",
)
MERGE_KEY = _kind(
    "NF013",
    "A merge key (`<<`) is used.",
    """It is no part of YAML 1.2, and readers differ in what it does with nested mappings. Refer to the other
    mapping by ${its.path}, or include a file.""",
    wrong=f"{_TINY}search: &same {{valid_fraction: 0.2}}\nretrain: {{<<: *same}}\n",
    right=f"{_TINY}search: {{valid_fraction: 0.2}}\n"
    "retrain: {valid_fraction: '${search.valid_fraction}'}\n",
)
KEY_NOT_TEXT = _kind(
    "NF014",
    "A key is not text.",
    """Keys are names of settings, which are text; a number, null or a collection cannot be one. Write it in
    quotes where it is meant as text.""",
    wrong=f"{_TINY}1: 2\n",
    right=f"{_TINY}seed: 1\n",
)
TAG = _kind(
    "NF015",
    "A YAML tag (`!name`) is used.",
    """Tags can make a reader of YAML call code. A recipe is plain data: write the value as it is, and name
    components by `type`.""",
    wrong=f"{_TINY}seed: !!python/object/apply:os.getpid []\n",
    right=f"{_TINY}seed: 1\n",
)
BAD_TEXT = _kind(
    "NF016",
    "A text has characters that no file or terminal can hold.",
    "Null characters and halves of surrogate pairs are not valid Unicode text. Write the character itself.",
    wrong=_TINY.replace("mine", '"mine\\0"'),
    right=_TINY.replace("mine", '"mine"'),
)
LONG_NUMBER = _kind(
    "NF017",
    "A whole number has more than 100 digits.",
    "No setting needs one, and reading very long ones takes very long.",
    wrong=f"{_TINY}seed: {'1' * 101}\n",
    right=f"{_TINY}seed: 1\n",
)

# includes

NO_INCLUDE = _kind(
    "NF021",
    "There is no such file to include.",
    """`include` names a file, relative to the one that says it, or a shipped recipe. What it says lies below
    the including recipe.""",
    wrong="include: digits_drats\nname: mine\n",
    right="include: digits_darts\nname: mine\n",
)
BAD_INCLUDE = _kind(
    "NF022",
    "`include` is neither a name nor a list of names.",
    "Later entries of a list lie over earlier ones, and the recipe itself over all.",
    wrong="include: {recipe: digits_darts}\nname: mine\n",
    right="include: [digits_darts]\nname: mine\n",
)
CIRCULAR_INCLUDE = _kind(
    "NF023",
    "A recipe includes itself.",
    """What is included lies below, so that neither of two files that include each other could be read first.
    Move what both need into a third.""",
    wrong=Example(f"include: base.yaml\n{_TINY}", files={"base.yaml": "include: recipe.yaml\n"}),
    right=Example("include: base.yaml\nname: other\n", files={"base.yaml": _TINY}),
)
MANY_INCLUDES = _kind(
    "NF024",
    "A recipe includes more than 100 files.",
    "Files are counted each time they are included, so that nested includes cannot multiply without end.",
    wrong=Example(f"include: [{', '.join(['seed.yaml'] * 100)}]\n{_TINY}", files={"seed.yaml": "seed: 1\n"}),
    right=Example(f"include: [seed.yaml]\n{_TINY}", files={"seed.yaml": "seed: 1\n"}),
)
OUTER_INCLUDE = _kind(
    "NF025",
    "A recipe includes a file outside of its folder.",
    """A recipe from elsewhere must not read what it likes: it may include what lies in its own folder or
    below, links followed, and shipped recipes. Copy the file there, or give `--outside` to allow it.""",
    wrong=f"include: ../base.yaml\n{_TINY}",
    right=Example("include: sub/base.yaml\nname: other\n", files={"sub/base.yaml": _TINY}),
)

# overrides

NOT_AN_OVERRIDE = _kind(
    "NF031",
    "An argument is no override.",
    """After the recipe come KEY=VALUE, which lays a value over it, and ~KEY, which deletes one. KEY is a path
    with dots, VALUE is YAML.""",
    wrong=Example(_TINY, overrides=("search.trainer.epochs:3",)),
    right=Example(_TINY, overrides=("search.trainer.epochs=3",)),
)
DELETES_NOTHING = _kind(
    "NF032",
    "`~KEY` deletes nothing.",
    """Only what the recipe's files say can be deleted; then its default holds. A deletion of nothing is
    mostly a slip in the path.""",
    wrong=Example(f"{_TINY}search: {{valid_fraction: 0.2}}\n", overrides=("~search.valid_fracton",)),
    right=Example(f"{_TINY}search: {{valid_fraction: 0.2}}\n", overrides=("~search.valid_fraction",)),
)
NO_SUCH_ITEM = _kind(
    "NF033",
    "An override names an item that its list does not have.",
    """On the command line an item of a list is named by its index, which counts from 0. To add one, give the
    whole list.""",
    wrong=Example(f"{_TINY}search: {{augment: [crop]}}\n", overrides=("search.augment.1.padding=2",)),
    right=Example(f"{_TINY}search: {{augment: [crop]}}\n", overrides=("search.augment.0.padding=2",)),
)

# references

BAD_REFERENCE = _kind(
    "NF041",
    "A `${…}` is no reference.",
    """A reference is ${section.key}, or ${.key} from the same mapping. Nothing is called, computed, escaped
    or read from the environment, so that a recipe means the same everywhere. What differs between runs
    is an override.""",
    wrong=f"{_TINY}seed: ${{oc.env:SEED}}\n",
    right=Example(_TINY, overrides=("seed=1",)),
)
DANGLING_REFERENCE = _kind(
    "NF042",
    "A reference points to nothing.",
    """It must point to what the recipe or its overrides say. Defaults cannot be referred to: write the value
    out where it is meant to be shared.""",
    wrong=f"{_TINY}seed: 3\nsearch: {{trainer: {{epochs: '${{sead}}'}}}}\n",
    right=f"{_TINY}seed: 3\nsearch: {{trainer: {{epochs: '${{seed}}'}}}}\n",
)
CIRCULAR_REFERENCE = _kind(
    "NF043",
    "References go in a circle.",
    "Following them never ends at a value. Write the value at one of the places.",
    wrong=f"{_TINY}search: {{valid_fraction: '${{retrain.valid_fraction}}'}}\n"
    "retrain: {valid_fraction: '${search.valid_fraction}'}\n",
    right=f"{_TINY}search: {{valid_fraction: 0.2}}\n"
    "retrain: {valid_fraction: '${search.valid_fraction}'}\n",
)
BAD_TEXT_REFERENCE = _kind(
    "NF044",
    "A reference inside a text cannot be spelled out.",
    """A value that is nothing but a reference may be anything; inside a text it must be a scalar, and the
    text must stay short.""",
    wrong="name: run-${space}\ndata: digits\nspace: {type: darts, cells: 5}\n",
    right="name: run-${space.cells}\ndata: digits\nspace: {type: darts, cells: 5}\n",
)

# keys

UNKNOWN_KEY = _kind(
    "NF051",
    "There is no such setting.",
    """A key that nothing reads would be a wish that is silently dropped, so it is refused. `nasframe show`
    lists the settings of a component, `nasframe config` all values of a recipe.""",
    wrong=f"{_TINY}search: {{trainer: {{epoch: 3}}}}\n",
    right=f"{_TINY}search: {{trainer: {{epochs: 3}}}}\n",
)
MISSING_KEY = _kind(
    "NF052",
    "A setting that has no default is not given.",
    "There is no value that would be right for everybody.",
    wrong="name: mine\nspace: darts\n",
    right=_TINY,
)
OTHER_VERSION = _kind(
    "NF053",
    "The recipe is of another version of the format.",
    """Reading it as if it were of this one could change its meaning. Upgrade nasframe if it is newer; a
    recipe without `version` is of the present one. docs/stability.md says which versions are read.""",
    wrong=f"version: 2\n{_TINY}",
    right=f"version: 1\n{_TINY}",
)

# values

WRONG_TYPE = _kind(
    "NF061",
    "A value is of the wrong type.",
    """Nothing is converted silently: text is never a number, nor a number text. Whole floats such as 1e3 may
    stand for integers.""",
    wrong=f"{_TINY}seed: '3'\n",
    right=f"{_TINY}seed: 3\n",
)
OUT_OF_RANGE = _kind(
    "NF062",
    "A value is not in its range.",
    "With it the setting would have no meaning, such as a negative size or a share above 1.",
    wrong=f"{_TINY}search: {{trainer: {{epochs: 0}}}}\n",
    right=f"{_TINY}search: {{trainer: {{epochs: 1}}}}\n",
)
NOT_AN_OPTION = _kind(
    "NF063",
    "A value is none of those that can be chosen.",
    "The message lists them.",
    wrong=f"{_TINY}device: gpu\n",
    right=f"{_TINY}device: cpu\n",
)
OUTER_OUTPUT = _kind(
    "NF064",
    "A recipe writes outside of its folder.",
    """A recipe from elsewhere must not write where it likes: a file that it names is written below its own
    folder, or below the one that nasframe is started in, links followed. Give the path on the command line,
    or `--outside` to allow it.""",
    wrong=f"{_TINY}search: {{cost: {{type: latency, table: ../latency.json}}}}\n",
    right=f"{_TINY}search: {{cost: {{type: latency, table: latency.json}}}}\n",
)

# names

NO_NAME = _kind(
    "NF071",
    "A component is not named.",
    """A component is its name, or a mapping with the name as `type` and its settings. `type` may only be left
    out where a default, or the recipe below, says it already.""",
    wrong="name: mine\ndata: {test_fraction: 0.2}\nspace: darts\n",
    right="name: mine\ndata: {type: digits, test_fraction: 0.2}\nspace: darts\n",
)
UNKNOWN_NAME = _kind(
    "NF072",
    "No component has this name.",
    """`nasframe list` has all of them. A component of your own must be installed as a plugin, or named by
    `--plugin FILE.py`.""",
    wrong="name: mine\ndata: digit\nspace: darts\n",
    right=_TINY,
)
UNUSABLE_COMPONENT = _kind(
    "NF073",
    "A component is there, but cannot be used.",
    """Its package cannot be imported, two packages claim its name, or its author declared a setting that no
    recipe can give. `nasframe list` shows each such component with its reason.""",
    wrong=Example(
        f"{_TINY}search: {{trainer: {{schedule: warm}}}}\n",
        files={"warm-1.0.dist-info/entry_points.txt": "[nasframe.schedules]\nwarm = not_installed:Warm\n"},
    ),
    right=f"{_TINY}search: {{trainer: {{schedule: cosine}}}}\n",
)
BAD_RUN_NAME = _kind(
    "NF074",
    "The recipe's name cannot name a folder.",
    """Runs are kept in a folder of that name, so it must be one folder, on every system, and not a hidden
    one.""",
    wrong=_TINY.replace("mine", "mine/first"),
    right=_TINY.replace("mine", "mine-first"),
)

# parts that must fit together

NEEDS_KIND = _kind(
    "NF081",
    "The algorithm needs a kind of parameter that the mixed op does not make.",
    """An algorithm that moves parameters that are not there would search nothing. `nasframe show` says what
    an algorithm needs, what a mixed op makes, and which of them work together.""",
    wrong=Example(
        f"{_TINY}search: {{mixed_op: plain_sum}}\n",
        files={
            "plain_sum.py": "from nasframe.core import Choice, MixedOp\n"
            "class PlainSum(MixedOp):\n"
            "    makes = ()\n"
            "    def __init__(self, choice: Choice) -> None: ...\n",
            "plain_sum-1.0.dist-info/entry_points.txt": "[nasframe.mixed_ops]\n"
            "plain_sum = plain_sum:PlainSum\n",
        },
    ),
    right=f"{_TINY}search: {{mixed_op: softmax}}\n",
)
MIXES_OTHERWISE = _kind(
    "NF082",
    "The algorithm and the mixed op do not work together.",
    """A mixed op that runs one drawn path needs an algorithm that draws it, and the other way around.
    `nasframe show algorithms NAME` lists the mixed ops that work with one.""",
    wrong=f"{_TINY}search: {{algorithm: proxyless, mixed_op: softmax}}\n",
    right=f"{_TINY}search: {{algorithm: proxyless, mixed_op: binary_gate}}\n",
)
COST_UNUSED = _kind(
    "NF083",
    "Nothing in the search would follow the cost.",
    """Alphas pay for a cost if the algorithm descends a penalty and the cost is a sum over the parts of a
    network. Otherwise the wish would be silently dropped.""",
    wrong=f"{_TINY}search: {{algorithm: weights_only, cost: flops}}\n",
    right=f"{_TINY}search: {{algorithm: darts_bilevel, cost: flops}}\n",
)
OTHER_SPACE = _kind(
    "NF084",
    "The benchmark's table is of another space.",
    "It knows the accuracy of the architectures of one space with certain settings, and of no other.",
    wrong=Example(
        f"{_TINY}search: {{benchmark: {{type: nas_bench_macro, path: table.json}}}}\n",
        files={"table.json": "{}"},
    ),
    right=Example(
        "name: mine\ndata: digits\nspace: macro\n"
        "search: {benchmark: {type: nas_bench_macro, path: table.json}}\n",
        files={"table.json": "{}"},
    ),
)
NEEDS_HELD_OUT = _kind(
    "NF085",
    "Something learns from held-out examples, or decides by them, and none are held out.",
    "Alphas that learn from what the weights learn from prefer candidates that overfit; so does a choice "
    "among trainings or epochs.",
    wrong=f"{_TINY}search: {{valid_fraction: 0}}\n",
    right=f"{_TINY}search: {{valid_fraction: 0.5}}\n",
)
EMPTY_SPLIT = _kind(
    "NF086",
    "A share of the training examples is none, or all of them.",
    "Both sides of the split are learned from or measured on, so neither may be empty.",
    wrong=f"{_TINY}retrain: {{valid_fraction: 0.0001}}\n",
    right=f"{_TINY}retrain: {{valid_fraction: 0.1}}\n",
)
PENALTY_WITHOUT_COST = _kind(
    "NF087",
    "A penalty has no cost to work on.",
    "A penalty says how alphas pay for a cost; without `search.cost` the wish would be silently dropped.",
    wrong=f"{_TINY}search: {{penalty: {{type: budget, max: 1 M}}}}\n",
    right=f"{_TINY}search: {{cost: flops, penalty: {{type: budget, max: 1 M}}}}\n",
)
NOT_AN_AMOUNT = _kind(
    "NF088",
    "An amount is not one of the cost.",
    "A number is in the cost's own unit; text names one, such as `12 ms` of latency or `60 M` of flops.",
    wrong=f"{_TINY}search: {{cost: flops, penalty: {{type: budget, max: 12 ms}}}}\n",
    right=f"{_TINY}search: {{cost: flops, penalty: {{type: budget, max: 1 M}}}}\n",
)
KEEPS_NO_BUDGET = _kind(
    "NF089",
    "The deriver cannot keep a budget.",
    """What a search with a budget finds must cost no more than it may; a deriver that knows no prices could
    keep anything.""",
    wrong=Example(
        f"{_TINY}search: {{deriver: first, cost: flops, penalty: {{type: budget, max: 1 M}}}}\n",
        files={
            "first.py": "from nasframe.core import Deriver, Genotype, Model\n"
            "class First(Deriver):\n"
            "    def derive(self, model: Model) -> Genotype:\n"
            "        return model.genotype({})\n",
            "first-1.0.dist-info/entry_points.txt": "[nasframe.derivers]\nfirst = first:First\n",
        },
    ),
    right=f"{_TINY}search: {{deriver: darts, cost: flops, penalty: {{type: budget, max: 1 M}}}}\n",
)
IMPOSSIBLE_BASELINE = _kind(
    "NF090",
    "There is nothing to compare the found network with.",
    """A baseline is a family of networks that the space names, of which one is taken that costs what the
    found network costs by `search.cost`, and trained from new weights by the same settings.""",
    wrong=f"{_TINY}retrain: {{baseline: mobilenet_v2}}\n",
    right="name: mine\ndata: digits\n"
    "space: {type: mobile, stem: cifar, widths: [8], depths: [2], strides: [2], features: 8}\n"
    "search: {cost: parameters}\nretrain: {baseline: mobilenet_v2}\n",
)

# this machine

ABSENT_FILE = _kind(
    "NF091",
    "A file or folder is not there.",
    "Relative paths start from the folder of the file that says them; on the command line, from here.",
    wrong="name: mine\ndata: {type: cifar10, path: nowhere}\nspace: {type: macro, stages: [1]}\n",
    right="name: mine\ndata: {type: cifar10, path: .}\nspace: {type: macro, stages: [1]}\n",
)
ABSENT_DEVICE = _kind(
    "NF092",
    "This machine does not have the device.",
    "`auto` takes the accelerator if there is one.",
    wrong=f"name: mine\ndata: digits\nspace: {{type: macro, stages: [1]}}\ndevice: {_DEVICE_OF_OTHERS}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\ndevice: auto\n",
)

# parts that cannot be built

IMPOSSIBLE_SETTINGS = _kind(
    "NF101",
    "The settings of a component contradict each other.",
    "Each is right alone, and together they ask for something that cannot be.",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {trainer: {optimizer: {nesterov: true, momentum: 0}}}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {trainer: {optimizer: {nesterov: true, momentum: 0.9}}}\n",
)
IMPOSSIBLE_DATA = _kind(
    "NF102",
    "There can be no data set with these settings.",
    "Some examples must be left on each side of every split that the data set makes.",
    wrong="name: mine\ndata: {type: digits, test_fraction: 0}\nspace: {type: macro, stages: [1]}\n",
    right="name: mine\ndata: {type: digits, test_fraction: 0.2}\nspace: {type: macro, stages: [1]}\n",
)
IMPOSSIBLE_SPACE = _kind(
    "NF103",
    "The space cannot be built for this data.",
    """Its networks do not take inputs of that shape (more reductions than the image allows, say), or its
    settings leave nothing to search. It is built without computing anything, to see.""",
    wrong="name: mine\ndata: digits\nspace: {type: darts, cells: 3, nodes: 1, stem: imagenet}\n",
    right="name: mine\ndata: digits\nspace: {type: darts, cells: 3, nodes: 1, stem: cifar}\n",
)
OTHER_RETRAIN_SPACE = _kind(
    "NF104",
    "The space of the retraining cannot build what the search finds.",
    """The two may differ in width, depth and extras, but must have the same choices; else the retraining
    would fail after the search was paid for.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nretrain: {space: {stages: [1, 1]}}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nretrain: {space: {channels: 8}}\n",
)
IMPOSSIBLE_SUPERNET = _kind(
    "NF105",
    "The search's network cannot be built.",
    "The mixed op does not take the candidates of this space, or the cost cannot price them.",
    wrong=Example(
        "name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nsearch: {mixed_op: only_pairs}\n",
        files={
            "only_pairs.py": "from nasframe.core import ALPHA, Choice\n"
            "from nasframe.errors import UnsupportedError\n"
            "from nasframe.mixed_ops.softmax import Softmax\n"
            "class OnlyPairs(Softmax):\n"
            "    makes = (ALPHA,)\n"
            "    def __init__(self, choice: Choice) -> None:\n"
            "        if len(choice.candidates) != 2:\n"
            "            raise UnsupportedError(f'{choice.id} must have 2 candidates')\n",
            "only_pairs-1.0.dist-info/entry_points.txt": "[nasframe.mixed_ops]\n"
            "only_pairs = only_pairs:OnlyPairs\n",
        },
    ),
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nsearch: {mixed_op: softmax}\n",
)
IMPOSSIBLE_STEP = _kind(
    "NF106",
    "The algorithm refuses the trainer's step, or the objective.",
    """An algorithm that differentiates through the step of the weights must know how that optimizer makes it,
    for example. The message says what it works with.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {algorithm: {order: 2}, trainer: {optimizer: adam}}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {algorithm: {order: 2}, trainer: {optimizer: sgd}}\n",
)
BAD_GENOTYPE = _kind(
    "NF107",
    "The architecture in the file of `genotype` cannot be built.",
    """It must be a genotype of `retrain.space`: the same choices, and candidates that they have. It is what a
    search leaves in `search/genotype.json`.""",
    wrong=Example(
        "name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\ngenotype: found.json\n",
        files={
            "found.json": '{"format": "nasframe.genotype", "version": 1, '
            '"choices": {"layer_0": ["sep_conv_3x3"]}}\n'
        },
    ),
    right=Example(
        "name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\ngenotype: found.json\n",
        files={
            "found.json": '{"format": "nasframe.genotype", "version": 1, '
            '"choices": {"layer_0": ["identity"]}}\n'
        },
    ),
)

NOTHING_TO_INHERIT = _kind(
    "NF108",
    "A network would inherit weights that no supernet has.",
    """With `retrain.inherit: true` the retraining begins with what the search has trained. So there must be a
    search that trains a supernet, and the retrained network must be built like a part of it: of the same
    width and depth, without an auxiliary head. The score `supernet` takes networks of `space` for paths of
    the supernet; where a space builds them otherwise (poolings of `darts`, which have batch norms in the
    supernet alone), leave those candidates out.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "retrain: {inherit: true, space: {channels: 8}}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nretrain: {inherit: true}\n",
)

# explorers

EXPLORER_OR_SCORE_ALONE = _kind(
    "NF111",
    "An explorer has no score to ask for, or a score has nobody who asks for it.",
    """`search.explorer` looks for the architecture by asking `search.score` how good one after another is.
    Without the other, each would do nothing.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nsearch: {explorer: random_search}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {explorer: random_search, score: synflow}\n",
)
NO_SMALLER_BUDGETS = _kind(
    "NF112",
    "The explorer asks for cheaper scores than there are.",
    """Successive halving scores many architectures on a small budget and few on the whole one. Of the
    built-in scores only `retraining` has a budget: the epochs of `search.trainer`.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {explorer: successive_halving, score: synflow}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {explorer: successive_halving, score: retraining}\n",
)
LEARNS_NO_ARCHITECTURE = _kind(
    "NF113",
    "Nothing learns an architecture.",
    """The algorithm trains the weights of a supernet and nothing else, so that a deriver would read off
    alphas what nobody learned. An explorer finds the architecture by the score `supernet`.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {algorithm: single_path, mixed_op: uniform_path}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {algorithm: single_path, mixed_op: uniform_path, explorer: evolution, score: supernet}\n",
)

# parts of a method, and what they need beside them

READS_OTHERWISE = _kind(
    "NF121",
    "A part of the search does not find in the mixed op what it works on.",
    """A regularizer of gates has nothing to say of a softmax, whose weights share 1, and a perturbation moves
    the shares of a weighted sum, which a mixed op that runs one path does not have. `nasframe show` lists the
    mixed ops that work with one.""",
    wrong=f"{_TINY}search: {{regularizers: [zero_one], mixed_op: softmax}}\n",
    right=f"{_TINY}search: {{regularizers: [zero_one], mixed_op: sigmoid}}\n",
)
REGULARIZER_UNUSED = _kind(
    "NF122",
    "Nothing in the search would follow a regularizer.",
    """Alphas minimize a regularizer if the algorithm descends a penalty of them. Otherwise the wish would be
    silently dropped.""",
    wrong=f"{_TINY}search: {{algorithm: weights_only, regularizers: [beta_decay]}}\n",
    right=f"{_TINY}search: {{algorithm: darts_bilevel, regularizers: [beta_decay]}}\n",
)

# the health of a search

HEALTH_UNUSED = _kind(
    "NF131",
    "What is asked of the health of a search cannot be seen or done there.",
    """To stop a search, or to lead its alphas back, there must be alphas that decide, and a trainer that lets
    itself be stopped. An eigenvalue of the loss in the alphas needs mixtures that have a second derivative,
    as weighted sums do. Otherwise the wish would be silently dropped.""",
    wrong=f"{_TINY}search: {{explorer: random_search, score: synflow, health: {{action: stop}}}}\n",
    right=f"{_TINY}search: {{health: {{action: stop}}}}\n",
)

# the stages of a search

IMPOSSIBLE_STAGES = _kind(
    "NF141",
    "A search cannot go through its stages.",
    """A stage goes on with the strongest candidates of the one before, so alphas must have been learned
    there, and no more candidates can be kept than are left. An explorer has no alphas; pruning by them knows
    no cost, and might leave nothing that keeps a budget; and all stages must have the choices of `space`.""",
    wrong="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\n"
    "search: {stages: [{keep: 3}, {keep: 2}]}\n",
    right="name: mine\ndata: digits\nspace: {type: macro, stages: [1]}\nsearch: {stages: [{}, {keep: 2}]}\n",
)
