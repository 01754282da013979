"""What a training run is: TrainConfig, and how it is read from TOML."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.frontend import FrontendConfig
from mbx_deploy.train.augment import AugmentConfig
from mbx_deploy.train.dataset import LABELS, SAMPLE_RATE_HZ, check_labels
from mbx_deploy.train.model import MatchboxNetConfig


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Ratios count clips an epoch against the mean count of a command word."""

    labels: tuple[str, ...] = LABELS
    model: MatchboxNetConfig = field(default_factory=lambda: MatchboxNetConfig(len(LABELS)))
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 1
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 0.006
    warmup_fraction: float = 0.15
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    ema_decay: float = 0.998
    unknown_ratio: float = 1.5
    silence_ratio: float = 1.0
    threads: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_labels(self.labels)
        if self.frontend.sample_rate_hz != SAMPLE_RATE_HZ:
            raise InputError(
                f"bad training (frontend.sample_rate_hz): got {self.frontend.sample_rate_hz}, "
                f"need {SAMPLE_RATE_HZ}, the data set's rate"
            )
        for name, need, found in (
            ("num_classes", len(self.labels), self.model.num_classes),
            ("input_coefficients", self.frontend.num_coefficients, self.model.input_coefficients),
            ("input_frames", self.frontend.num_frames, self.model.input_frames),
        ):
            if need != found:
                raise InputError(f"bad training (model.{name}): got {found}, need {need}")
        for name, least in (("seed", 0), ("epochs", 1), ("batch_size", 2), ("threads", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"bad training ({name}): got {value!r}, need a whole number of {least} or more")
        for name, most in (
            ("learning_rate", 1000.0),
            ("warmup_fraction", 1.0),
            ("weight_decay", 1000.0),
            ("label_smoothing", 0.99),
            ("ema_decay", 0.999999),
            ("unknown_ratio", 1000.0),
            ("silence_ratio", 1000.0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InputError(f"bad training ({name}): got {value!r}, need a number")
            if not 0 <= value <= most:
                raise InputError(f"bad training ({name}): got {value}, need 0 to {most:g}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON and TOML values, the parts as nested tables."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["labels"] = list(self.labels)
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
                raise InputError(f"unknown training key: got {key!r}, need one of {', '.join(sorted(known))}")
        for table in ("model", "frontend", "augment"):
            if not isinstance(values.get(table, {}), dict):
                raise InputError(f"bad training ({table}): got {values[table]!r}, need a table")
        labels = values.get("labels", list(LABELS))
        check_labels(labels)
        frontend = FrontendConfig.from_dict(values.get("frontend", {}))
        shape = {
            "num_classes": len(labels),
            "input_coefficients": frontend.num_coefficients,
            "input_frames": frontend.num_frames,
        }
        parts = {
            "labels": tuple(labels),
            "frontend": frontend,
            "model": MatchboxNetConfig.from_dict({**shape, **values.get("model", {})}),
            "augment": AugmentConfig.from_dict(values.get("augment", {})),
        }
        return cls(**{**values, **parts})


def load_train_config(path: Path) -> TrainConfig:
    """Return the config of a TOML file. Raises InputError for a file that is no TOML, unknown keys,
    bad values.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the training configuration ({path}): {error}") from error
    return TrainConfig.from_dict(values)
