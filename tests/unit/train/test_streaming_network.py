"""A streaming network's valid convolutions are the same ones, cropped; its stream is what its windows say."""

from typing import Any

import numpy as np
import pytest
import torch

from mbx_deploy.errors import InputError
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.depthwise import Depthwise
from mbx_deploy.train.matchboxnet import (
    MatchboxNet,
    MatchboxNetConfig,
    ResidualBlock,
    build_matchboxnet,
    prepare_for_answers,
)

SMALL: dict[str, Any] = {
    "num_classes": 3,
    "blocks": 2,
    "repeats": 2,
    "channels": 8,
    "prologue_filters": 8,
    "prologue_kernel": 3,
    "kernels": (3, 5),
    "epilogue_filters": 8,
    "epilogue_kernel": 5,
    "epilogue_dilation": 2,
    "input_coefficients": 8,
}
POOL, STEP = 6, 2


def small(pool_frames: int = POOL) -> MatchboxNet:
    """Return an untrained streaming network whose batch norms are no identities."""
    torch.manual_seed(1)
    receptive = MatchboxNetConfig(**SMALL).receptive_frames()
    config = MatchboxNetConfig(
        **SMALL,
        input_frames=receptive - 1 + pool_frames,
        streaming=True,
        pool_frames=pool_frames,
        step_frames=STEP,
    )
    network = build_matchboxnet(config)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(16, 8, 1, config.input_frames))
    return network.eval()


def test_the_receptive_field_follows_from_the_config() -> None:
    assert MatchboxNetConfig(10).receptive_frames() == 109
    assert MatchboxNetConfig(**SMALL).receptive_frames() == 3 + 2 * (2 + 4) + 2 * 4
    shape = MatchboxNetConfig(10, streaming=True, input_frames=208)
    assert (shape.window_frames, shape.tail_frames) == (208, 104)


def test_each_frame_depends_on_its_receptive_field_and_nothing_else() -> None:
    network = small(pool_frames=1 * STEP)
    receptive = network.config.receptive_frames()
    x = torch.randn(1, 8, 1, network.config.input_frames, requires_grad=True)
    before_pool: list[torch.Tensor] = []
    network.epilogue_2.register_forward_hook(lambda _, __, out: before_pool.append(out))
    network(x)
    assert before_pool[0].shape[3] == STEP
    before_pool[0][..., 0].sum().backward()
    assert x.grad is not None
    touched = np.flatnonzero(x.grad.abs().sum(dim=(0, 1, 2)).numpy())
    assert touched[0] == 0
    assert touched[-1] == receptive - 1


@pytest.mark.parametrize("dilation", [1, 2])
def test_valid_is_same_cropped_in_training_and_in_evaluation(dilation: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 8, 1, 30).contiguous(memory_format=torch.channels_last)
    same, valid = Depthwise(8, 5, dilation), Depthwise(8, 5, dilation, valid=True)
    valid.load_state_dict(same.state_dict())
    reach = 2 * dilation
    for training in (True, False):
        expected = same.train(training)(x)[..., reach:-reach]
        found = valid.train(training)(x)
        assert torch.allclose(found, expected, atol=1e-6)
        for module, out in ((same, expected), (valid, found)):
            module.zero_grad()
            out.square().sum().backward()
        assert valid.weight.grad is not None
        assert same.weight.grad is not None
        assert torch.allclose(valid.weight.grad, same.weight.grad, rtol=1e-4, atol=1e-5)


def test_the_residual_branch_keeps_its_last_frames() -> None:
    block = small().blocks[0]
    assert isinstance(block, ResidualBlock)
    x = torch.randn(1, 8, 1, 20)
    out = block(x)
    main = x
    for index, repeat in enumerate(block.repeats):
        main = repeat(torch.relu(main) if index else main)
    expected = torch.relu(main + block.residual(x)[..., 20 - main.shape[3] :])
    assert torch.allclose(out, expected, atol=1e-6)


def test_windows_of_a_stream_are_means_over_frames_computed_once() -> None:
    network = prepare_for_answers(small())
    frames = torch.randn(1, 8, 1, network.config.input_frames + 5 * STEP)
    with torch.inference_mode():
        kept: list[torch.Tensor] = []
        hook = network.epilogue_2.register_forward_hook(lambda _, __, out: kept.append(torch.relu(out)))
        network(frames)
        hook.remove()
        for decision in range(6):
            window = frames[..., decision * STEP : decision * STEP + network.config.input_frames]
            pool = kept[0][..., decision * STEP : decision * STEP + POOL]
            assert torch.allclose(network(window), network.decoder(pool.mean(dim=(2, 3))), atol=1e-5)


def test_config_files_need_say_no_more_than_streaming() -> None:
    config = TrainConfig.from_dict({"model": {"streaming": True}})
    assert config.model.input_frames == config.frontend.num_frames == 208
    assert config.frontend.clip_samples == 33120
    assert config.open_world is not None
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_a_windowed_config_has_the_keys_it_always_had() -> None:
    assert not {"streaming", "pool_frames", "step_frames"} & set(MatchboxNetConfig(10).to_dict())
    assert not {"open_world", "init"} & set(TrainConfig().to_dict())


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ({"streaming": True, "step_frames": 7}, "step_frames"),
        ({"streaming": True, "pool_frames": 0}, "pool_frames"),
        ({"streaming": 1}, "streaming"),
        ({"streaming": True, "input_frames": 101}, "input_frames"),
    ],
)
def test_bad_streaming_shapes_are_refused(model: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        TrainConfig.from_dict({"model": model})
