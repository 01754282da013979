"""A windowed network's weights in a streaming one, a MatchboxNet's of ours or NeMo's."""

from pathlib import Path

import pytest
import torch

from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.nemo.conversion import load_base
from mbx_deploy.train.checkpoint import CheckpointInfo
from mbx_deploy.train.jasper import JasperBlockConfig, JasperConfig, JasperNet, build_jasper
from mbx_deploy.train.matchboxnet import MatchboxNet, MatchboxNetConfig, build_matchboxnet
from mbx_deploy.train.streaming import as_matchboxnet, to_streaming


def jasper(**change: object) -> JasperNet:
    """Return an untrained network of MatchboxNet's shape, its second residual block changed."""
    second = {"filters": 8, "repeat": 2, "kernel": 5, "dilation": 1, "residual": True, "separable": True, **change}
    blocks = (
        JasperBlockConfig(16, 1, 3, 1, False, True),
        JasperBlockConfig(8, 2, 3, 1, True, True),
        JasperBlockConfig(**second),  # type: ignore[arg-type]
        JasperBlockConfig(16, 1, 5, 2, False, True),
        JasperBlockConfig(16, 1, 1, 1, False, False),
    )
    torch.manual_seed(0)
    network = build_jasper(JasperConfig(3, blocks, 8, 40))
    network.train()
    with torch.no_grad():
        network(torch.randn(8, 8, 1, 40))
    return network.eval()


def test_a_jasper_network_of_its_shape_is_a_matchboxnet() -> None:
    network = jasper()
    found = as_matchboxnet(network)
    x = torch.randn(4, 8, 1, 40)
    with torch.no_grad():
        assert torch.allclose(found(x), network(x), atol=1e-6)
    assert (found.config.kernels, found.config.repeats, found.config.epilogue_dilation) == ((3, 5), 2, 2)


@pytest.mark.parametrize("change", [{"residual": False}, {"dilation": 2}, {"filters": 4}, {"separable": False}])
def test_another_shape_is_named(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="not a MatchboxNet"):
        as_matchboxnet(jasper(**change))


def test_a_streaming_network_has_the_windowed_ones_weights() -> None:
    config = MatchboxNetConfig(4)
    base = build_matchboxnet(config).eval()
    info = CheckpointInfo(config, FrontendConfig(), ("a", "b", "c", "d"), {"seed": 1})
    network, found = to_streaming(base, info)
    assert found.model_config == network.config
    assert (network.config.input_frames, found.frontend.num_frames, found.frontend.clip_samples) == (208, 208, 33120)
    assert found.labels == info.labels
    x = torch.randn(1, 64, 1, 208)
    with torch.no_grad():
        assert network(x).shape == (1, 4)
    for name, value in base.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert to_streaming(network, found)[0] is network


def test_a_nemo_checkpoint_becomes_a_streaming_network(shared_nemo: Path) -> None:
    base, info = load_base(shared_nemo / "matchboxnet_3x1x64_8w_nemo221.nemo")
    assert info.frontend.pad_frames_before  # which a stream does not have
    network, found = to_streaming(base, info)  # type: ignore[arg-type]
    assert isinstance(network, MatchboxNet)
    assert network.config.receptive_frames() == 109
    assert found.frontend.num_frames == network.config.input_frames
    assert found.frontend.pad_frames_before == found.frontend.pad_frames_after == 0
