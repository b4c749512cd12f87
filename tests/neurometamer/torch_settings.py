"""What torch is set to inside our blocks and after them, however a user has set it.

`test_device_passes` runs this file in a process of its own.
"""

import pytest
import torch

from stimuli_gen.precision import float32_products

if not hasattr(torch.backends.cudnn, "conv"):
    pytest.skip("torch before 2.9 has fewer settings", allow_module_level=True)


def owners_of_torch():
    backends = torch.backends
    owners = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
    return [*owners, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]


def settings_of_torch():
    return [owner.fp32_precision for owner in owners_of_torch()]


def nothing():
    pass


def by_older_names():
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True


def by_newer_names():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"


def everything():
    torch.backends.fp32_precision = "tf32"


def halves():
    torch.set_float32_matmul_precision("medium")


USERS = [nothing, by_older_names, by_newer_names, everything, halves]


@pytest.mark.parametrize("user", USERS)
def test_products_are_float32_and_the_users_settings_come_back(user):
    before = settings_of_torch()
    general = torch.backends.fp32_precision
    try:
        user()
        own = settings_of_torch()
        with float32_products():
            assert set(settings_of_torch()) <= {"none", "ieee"}
            with float32_products(tf32=True):
                gpu, cpu = settings_of_torch()[:3], settings_of_torch()[3:]
                assert gpu == ["tf32"] * 3 and set(cpu) <= {"none", "ieee"}
            assert set(settings_of_torch()) <= {"none", "ieee"}
        assert settings_of_torch() == own
        with pytest.raises(ZeroDivisionError), float32_products(tf32=True):
            1 / 0  # noqa: B018
        assert settings_of_torch() == own
    finally:
        torch.backends.fp32_precision = general
        for owner, value in zip(owners_of_torch(), before, strict=True):
            owner.fp32_precision = value
