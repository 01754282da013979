"""What a training run is: TrainConfig, and how it is read from TOML."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mbx_deploy.data.dataset import CLIP_SAMPLES, LABELS, SAMPLE_RATE_HZ, check_labels
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.tables import build_tables
from mbx_deploy.system.documents import DocumentError, parse_toml, read_document, show
from mbx_deploy.system.yaml_documents import parse_yaml
from mbx_deploy.train.augment import AugmentConfig
from mbx_deploy.train.matchboxnet import MatchboxNetConfig
from mbx_deploy.train.open_world import OpenWorldConfig

OPTIMIZERS = ("adamw", "novograd")
SCHEDULES = ("cosine", "polynomial")
_COUNTS = {
    "seed": (0, 2**63 - 1),
    "epochs": (1, 1_000_000),
    "stop_after": (0, 1_000_000),
    "feature_epochs": (1, 1_000_000),
    "batch_size": (2, 1 << 20),
    "threads": (1, 1024),
}


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Ratios count clips an epoch against the mean count of a command word.

    Fractions are of all steps. stop_after: end after so many epochs though the learning rate is
    planned for more, 0 for all: an early model is the better teacher (J. H. Cho, B. Hariharan, "On
    the Efficacy of Knowledge Distillation", 2019). choose_fraction: the model is the best epoch on
    validation among so many of the last ones, 1 for all: while the learning rate is high, an epoch
    is the best by luck. feature_epochs: new variants of the clips are
    drawn every so many epochs, between them only order and masks change: features cost nearly as
    much as the network. teacher: the path of a model file whose answers, softened by
    teacher_temperature, count teacher_weight of the loss; "" for none. A windowed model may teach a streaming one: it
    says what it hears in the commands' clips. data_source: what the model
    card says of the data and its licence. init: the path of a model file, .pt or .tflite, whose weights training begins
    from; "" for random ones. open_world: what an epoch is made of where there are negatives, or of a streaming model,
    which always has it; None: the data set's clips by the ratios.
    """

    labels: tuple[str, ...] = LABELS
    model: MatchboxNetConfig = field(default_factory=lambda: MatchboxNetConfig(len(LABELS)))
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    open_world: OpenWorldConfig | None = None
    seed: int = 1
    epochs: int = 50
    stop_after: int = 0
    choose_fraction: float = 1.0
    feature_epochs: int = 2
    batch_size: int = 128
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    learning_rate: float = 0.006
    schedule: str = "cosine"
    warmup_fraction: float = 0.15
    hold_fraction: float = 0.0
    decay_power: float = 2.0
    least_learning_rate: float = 0.0
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    ema_decay: float = 0.998
    unknown_ratio: float = 1.5
    silence_ratio: float = 1.0
    teacher: str = ""
    teacher_weight: float = 0.7
    teacher_temperature: float = 2.0
    threads: int = 2
    data_source: str = ""
    init: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_labels(self.labels)
        if self.model.streaming and self.open_world is None:
            object.__setattr__(self, "open_world", OpenWorldConfig())
        if self.frontend.sample_rate_hz != SAMPLE_RATE_HZ:
            raise InputError(
                f"bad training (frontend.sample_rate_hz): got {self.frontend.sample_rate_hz}, "
                f"need {SAMPLE_RATE_HZ}, the data set's rate"
            )
        if build_tables(self.frontend).unit != 1.0:
            raise InputError(
                "bad training (frontend): got logarithms in a unit of their own, need natural ones",
                "take log_scale natural: what decibels differ by is a factor, which the first layer learns",
            )
        for name, need, found in (
            ("num_classes", len(self.labels), self.model.num_classes),
            ("input_coefficients", self.frontend.num_coefficients, self.model.input_coefficients),
            ("input_frames", self.frontend.num_frames, self.model.input_frames),
        ):
            if need != found:
                raise InputError(f"bad training (model.{name}): got {found}, need {need}")
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise InputError(
                    f"bad training ({name}): got {show(value)}, need a whole number from {least} to {most}",
                    f"change {name} in the configuration",
                )
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise InputError(f"bad training ({name}): got {show(getattr(self, name))}, need {' or '.join(choices)}")
        if not isinstance(self.betas, list | tuple) or len(self.betas) != 2:
            raise InputError(f"bad training (betas): got {show(self.betas)}, need two numbers from 0 to below 1")
        for beta in self.betas:
            if not isinstance(beta, int | float) or isinstance(beta, bool) or not 0 <= beta < 1:
                raise InputError(f"bad training (betas): got {show(self.betas)}, need two numbers from 0 to below 1")
        object.__setattr__(self, "betas", (float(self.betas[0]), float(self.betas[1])))
        for name, kind in (
            ("teacher", "the path of a model file"),
            ("init", "the path of a model file"),
            ("data_source", "a text"),
        ):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"bad training ({name}): got {show(getattr(self, name))}, need {kind}")
        for name, largest in (
            ("learning_rate", 1000.0),
            ("least_learning_rate", self.learning_rate),
            ("warmup_fraction", 1.0),
            ("hold_fraction", 1.0),
            ("choose_fraction", 1.0),
            ("decay_power", 10.0),
            ("teacher_weight", 1.0),
            ("teacher_temperature", 100.0),
            ("weight_decay", 1000.0),
            ("label_smoothing", 0.99),
            ("ema_decay", 0.999999),
            ("unknown_ratio", 1000.0),
            ("silence_ratio", 1000.0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InputError(f"bad training ({name}): got {show(value)}, need a number")
            if not 0 <= value <= largest:
                raise InputError(f"bad training ({name}): got {show(value)}, need 0 to {largest:g}")
        if self.warmup_fraction + self.hold_fraction > 1:
            total = self.warmup_fraction + self.hold_fraction
            raise InputError(f"bad training (warmup_fraction, hold_fraction): got {total:g}, need 1 at most")
        if not self.teacher_temperature:
            raise InputError("bad training (teacher_temperature): got 0, need more")

    @property
    def spoken_samples(self) -> int:
        """Return the length of a word's clip: a windowed model's window, a second for a streaming one."""
        return CLIP_SAMPLES if self.model.streaming else self.frontend.clip_samples

    @property
    def last_epoch(self) -> int:
        """Return how many epochs are trained."""
        return min(self.stop_after or self.epochs, self.epochs)

    @property
    def first_choice(self) -> int:
        """Return the epoch, counted from 1, from which on the model is chosen: the last one at least."""
        return min(self.last_epoch - round(self.choose_fraction * self.last_epoch) + 1, self.last_epoch)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON and TOML values, the parts as nested tables."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["labels"], values["betas"] = list(self.labels), list(self.betas)
        # What is not used is left out: a config of an earlier version has the same dict.
        for name in ("open_world", "init"):
            if not values[name]:
                del values[name]
        return {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Return the config of a dict or of a TOML file's tables; what is left out has its default.

        The model's number of classes and input shape follow from the labels and the front end.
        Raises InputError for an unknown key or a bad value.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise InputError(f"unknown training key: got {show(key)}, need one of {', '.join(sorted(known))}")
        for table in ("model", "frontend", "augment", "open_world"):
            if not isinstance(values.get(table, {}), dict):
                raise InputError(f"bad training ({table}): got {show(values[table])}, need a table")
        labels = values.get("labels", list(LABELS))
        check_labels(labels)
        model = dict(values.get("model", {}))
        given = dict(values.get("frontend", {}))
        if model.get("streaming") is True and "clip_samples" not in given:
            given["clip_samples"] = _window_samples(model, given)
        frontend = FrontendConfig.from_dict(given)
        shape = {
            "num_classes": len(labels),
            "input_coefficients": frontend.num_coefficients,
            "input_frames": frontend.num_frames,
        }
        parts = {
            "labels": tuple(labels),
            "frontend": frontend,
            "model": MatchboxNetConfig.from_dict({**shape, **model}),
            "augment": AugmentConfig.from_dict(values.get("augment", {})),
        }
        if "open_world" in values:
            parts["open_world"] = OpenWorldConfig.from_dict(values["open_world"])
        return cls(**{**values, **parts})


def _window_samples(model: dict[str, Any], frontend: dict[str, Any]) -> int:
    """Return the clip_samples of a streaming model's window: from its first frame's middle to its last one's."""
    shape = MatchboxNetConfig.from_dict({"num_classes": 1, **model, "streaming": False})
    config = FrontendConfig.from_dict(frontend)
    reach = 0 if config.center else config.window_length
    return (shape.window_frames - 1) * config.hop_length + reach


def load_train_config(path: Path) -> TrainConfig:
    """Return the config of a TOML or YAML file (.yaml, .yml). A teacher's path is relative to the
    file's folder.

    Raises InputError for a file that cannot be read as such, unknown keys, bad values.
    """
    path = Path(path)
    try:
        data = read_document(path)
        values = parse_yaml(data) if path.suffix in (".yaml", ".yml") else parse_toml(data)
    except DocumentError as error:
        raise InputError(
            f"cannot read the training configuration ({path}): {error}", "need a TOML or YAML of training keys"
        ) from None
    if values is None:
        values = {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"bad training configuration ({path}): got no table of keys, need one")
    for name in ("teacher", "init"):
        if isinstance(values.get(name), str) and values[name]:
            values = {**values, name: str(path.parent / values[name])}
    try:
        return TrainConfig.from_dict(values)
    except InputError as error:
        raise InputError(f"{error.what} ({path})", error.hint) from None
