"""Which kernel runs a call on a core: the sets of kernels, and the choice among them."""

from typing import Any

from mbx_deploy.compiler.cascade import Stripe, stripe_view
from mbx_deploy.compiler.kernels import dsp, helium, portable, thumb
from mbx_deploy.compiler.kernels.kernel import Chosen, Kernel
from mbx_deploy.network.program import Call, Program

PORTABLE = "portable"
# The kernels of a set, those that are tried first before others; where none takes a call, the portable one does.
_KERNELS: dict[str, tuple[Kernel[Any], ...]] = {
    PORTABLE: (),
    "dsp": dsp.KERNELS,
    "thumb": thumb.KERNELS,
    "helium": helium.KERNELS,
}
KERNEL_SETS = tuple(_KERNELS)
# Whose files a set needs: a core with Helium has the DSP extension, and the front end's loops are written for that.
NEEDED_SETS = {PORTABLE: (), "dsp": ("dsp",), "thumb": ("thumb",), "helium": ("dsp", "helium")}


def select_kernel(program: Program, call: Call, kernel_set: str) -> Chosen:
    """Return the kernel for a call: the first of the set whose conditions it meets, else the portable one."""
    fitting = (kernel for kernel in _KERNELS[kernel_set] if kernel.may_run(program, call))
    kernel = next(fitting, None) or portable.kernel_of(program, call)
    return Chosen(kernel, kernel.scratch_bytes(program, call))


def select_stripe_kernel(program: Program, stripes: list[Stripe], whole: Chosen) -> Chosen:
    """Return the kernel of a call in a cascade, with working memory for any of its stripes.

    whole: the kernel of the whole call.
    """
    kernel = whole.kernel.in_stripes or whole.kernel
    sizes = {stripe.end - stripe.first: stripe for stripe in stripes}
    return Chosen(kernel, max(kernel.scratch_bytes(*stripe_view(program, stripe)) for stripe in sizes.values()))
