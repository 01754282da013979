"""What moves the weights: the optimizer by name, the learning rate of every step, the running average."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from mbx_deploy.train.config import TrainConfig


class Novograd(torch.optim.Optimizer):
    """Momentum on gradients that are normalised layer by layer, as NeMo trains MatchboxNet.

    Source: B. Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for
    Training of Deep Networks", 2019, algorithm 1; the second moment starts at the first gradient's
    square and the rate is not corrected for it, as in NVIDIA NeMo's nemo/core/optim/novograd.py.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.5),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the weights by one step and return what closure, called first, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta_1, beta_2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                squared = parameter.grad.square().sum()
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                    state["second_moment"] = squared
                else:
                    state["second_moment"].mul_(beta_2).add_(squared, alpha=1.0 - beta_2)
                change = parameter.grad / (state["second_moment"].sqrt() + group["eps"])
                change.add_(parameter, alpha=group["weight_decay"])
                state["momentum"].mul_(beta_1).add_(change)
                parameter.add_(state["momentum"], alpha=-group["lr"])
        return loss


def build_optimizer(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Return the configuration's optimizer; batch norm and biases are not decayed by AdamW."""
    if config.optimizer == "novograd":
        # NeMo decays all weights alike.
        return Novograd(module.parameters(), config.learning_rate, config.betas, weight_decay=config.weight_decay)
    norms = {id(p) for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    shrink = [p for p in module.parameters() if id(p) not in norms and p.ndim > 1]
    keep = [p for p in module.parameters() if id(p) in norms or p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": shrink}, {"params": keep, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, config.learning_rate, config.betas, weight_decay=config.weight_decay)


def learning_rate_at(config: TrainConfig, step: int, steps: int) -> float:
    """Return the rate of a step: a straight rise over the first warmup_fraction of all steps, the
    full rate for hold_fraction of them, then a fall to least_learning_rate, half a cosine or a
    polynomial.
    """
    warmup = max(round(config.warmup_fraction * steps), 1)
    hold = warmup + round(config.hold_fraction * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if step < hold:
        return config.learning_rate
    done = min((step - hold) / max(steps - hold, 1), 1.0)
    if config.schedule == "polynomial":
        left = (1.0 - done) ** config.decay_power
    else:
        left = 0.5 * (1.0 + math.cos(math.pi * done))
    rate: float = config.least_learning_rate + (config.learning_rate - config.least_learning_rate) * left
    return rate


@torch.no_grad()
def move_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the module, weights and batch norm's statistics alike, after the
    step of this number.
    """
    # A short memory at first, so that the average forgets the random weights it began with.
    decay = min(decay, (1 + step) / (10 + step))
    old, new = average.state_dict(), module.state_dict()
    moving = [name for name, value in old.items() if value.is_floating_point()]
    torch._foreach_lerp_([old[n] for n in moving], [new[n] for n in moving], 1.0 - decay)
    for name in set(old) - set(moving):
        old[name].copy_(new[name])
