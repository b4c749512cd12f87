"""The procedures that make images for a network: one entry each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stimuli_gen.adversarial import adversarial_interference, adversarial_noise, confirm_saved
from stimuli_gen.controversial import confirm_controversial, controversial_images
from stimuli_gen.controversial_stages import (
    confirm_representations,
    controversial_representations,
)
from stimuli_gen.divergent import confirm_divergent, divergent_metamers
from stimuli_gen.eigendistortions import confirm_eigendistortions, eigendistortions
from stimuli_gen.greedy import greedy_interference
from stimuli_gen.metamers import confirm_metamers, model_metamers
from stimuli_gen.pgd import attack_images, confirm_attacks
from stimuli_gen.stimuli import StimulusSet


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A procedure that makes images for a network: an entry of `GENERATORS`.

    Parameters
    ----------
    make : callable
        Network, photographs and options → images. One of its options is ``run``, a
        `neurometamer.run_options.RunOptions`.
    confirm : callable
        Reads the written files of these images and judges them.
    kind : str
        Kind of the images in the table of stimuli.
    help : str
        One line.
    n_networks : int
        Networks that it takes: one alone (or, of metamers, a set), or two in a sequence.
    """

    make: Callable[..., StimulusSet]
    confirm: Callable[..., StimulusSet]
    kind: str
    help: str
    n_networks: int = 1

    @property
    def defaults(self) -> dict[str, Any]:
        """Options and their defaults, as the function has them.

        Returns
        -------
        dict
            Option → default, of all options that have one.
        """
        defaults = {}
        signature = inspect.signature(self.make)
        for name, parameter in signature.parameters.items():
            if parameter.default is not parameter.empty:
                defaults[name] = parameter.default
        return defaults


GENERATORS: Mapping[str, Generator] = {
    "noise": Generator(
        make=adversarial_noise,
        confirm=confirm_saved,
        kind="AN",
        help="adversarial noise: noise to people, the photograph's class to the network",
    ),
    "interference": Generator(
        make=adversarial_interference,
        confirm=confirm_saved,
        kind="AI",
        help="adversarial interference by gradient steps: the photograph to people, a wrong class "
        "to the network",
    ),
    "greedy": Generator(
        make=greedy_interference,
        confirm=confirm_saved,
        kind="AI",
        help="adversarial interference by random search",
    ),
    "attack": Generator(
        make=attack_images,
        confirm=confirm_attacks,
        kind="control",
        help="projected gradient descent within a ball around the photograph",
    ),
    "metamer": Generator(
        make=model_metamers,
        confirm=confirm_metamers,
        kind="metamer",
        help="metamers: the photograph to one network, or to each of several, at a stage",
    ),
    "controversial": Generator(
        make=controversial_images,
        confirm=confirm_controversial,
        kind="controversial",
        help="controversial images: two networks are sure of two different classes",
        n_networks=2,
    ),
    "controversial-stage": Generator(
        make=controversial_representations,
        confirm=confirm_representations,
        kind="controversial",
        help="controversial images: two networks place them elsewhere among other images",
        n_networks=2,
    ),
    "divergent": Generator(
        make=divergent_metamers,
        confirm=confirm_divergent,
        kind="metamer",
        help="maximally different metamers: the photograph to one network, not to another",
        n_networks=2,
    ),
    "eigendistortion": Generator(
        make=eigendistortions,
        confirm=confirm_eigendistortions,
        kind="eigendistortion",
        help="eigendistortions: the changes of a photograph that a stage sees best and least",
    ),
}
"""Name → generator."""
