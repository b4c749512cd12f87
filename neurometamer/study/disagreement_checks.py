"""What is wrong with the settings of images on which networks disagree, before any work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np

from neurometamer.commands.metamers import read_stages
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.study.disagreement_steps import SEARCH_KEYS, SPECTRUM_KEYS, distorted_networks
from neurometamer.study.image_steps import choose_ids
from neurometamer.study.plan import Workspace
from neurometamer.zoo import load_model, model_entry
from neurometamer.zoo.sources import is_model, read_own_network
from stimuli_gen.photograph_lists import list_photographs
from stimuli_gen.photographs import PACKAGED

Watch = Callable[..., AbstractContextManager[None]]
"""Keeps what a block refuses, as `neurometamer.study.checks.Findings.watch` does."""


def compared_networks(work: Workspace) -> list[str]:
    """Name the networks that are compared or distorted.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    list of str
        Each once.
    """
    settings = work.settings
    pairs = [*settings.controversial.pairs, *settings.divergent.pairs]
    names = [name for pair in pairs for name in pair]
    names += [name for name, _ in distorted_networks(work)]
    return list(dict.fromkeys(names))


def check_numbers(work: Workspace, section: str) -> None:
    """Check the numbers of a generator as the generator does.

    Parameters
    ----------
    work : Workspace
        The study.
    section : {"controversial", "divergent", "eigendistortion"}
        Section of the settings.

    Raises
    ------
    InputError
        When a name is unknown or a number out of range.
    """
    from stimuli_gen.divergent import check_settings
    from stimuli_gen.jacobians import Spectrum
    from stimuli_gen.pairs import Search

    chosen = getattr(work.settings, section)
    if section == "controversial":
        Search(**{name: getattr(chosen, name) for name in SEARCH_KEYS})
    elif section == "eigendistortion":
        Spectrum(**{name: getattr(chosen, name) for name in SPECTRUM_KEYS})
    else:
        steps = {"steps": chosen.steps} if chosen.steps else {}
        check_settings(chosen.preset, {**chosen.overrides, **steps}, chosen.apart)


def check_disagreement(work: Workspace, watch: Watch) -> None:
    """Check pairs of networks, their sizes, classes and stages, and the numbers of generators.

    Parameters
    ----------
    work : Workspace
        The study; unknown networks are told elsewhere.
    watch : callable
        Keeps what is refused.
    """
    settings = work.settings
    sections: dict[str, Sequence[Sequence[str]]] = {
        "controversial": settings.controversial.pairs,
        "divergent": settings.divergent.pairs,
        "eigendistortion": [(name,) for name, _ in distorted_networks(work)],
    }
    for section, sets in sections.items():
        if not sets:
            continue
        chosen = getattr(settings, section)
        made: list[str] = []
        with watch(prefix=f"{section}.photographs: "):
            ids = _photograph_ids(work)
            made = choose_ids(ids, chosen.photographs, section)
            if section == "divergent" and len(ids) < 2:
                raise InputError(
                    f"a null needs two photographs, not {name_ids(ids)}; give more photographs."
                )
        with watch(prefix=f"{section}: "):
            check_numbers(work, section)
        if section == "controversial" and made:
            with watch(prefix="controversial: "):
                check = check_bank if chosen.stage else check_classes
                check(work, made)
        known = [names for names in dict.fromkeys(sets) if are_known(work, names)]
        for names in known:
            with watch(prefix=f"{section}: "):
                check_names(work, names)
        for names in known:
            with watch(prefix=f"{section}.image_size: "):
                check_size([work.network(name) for name in names], chosen.image_size)
        with watch(prefix=f"{section}.stage: "):
            for name, stage in stage_of_each(work, section, known):
                check_stages(work.network(name), [stage])
                if section == "eigendistortion":
                    check_units(work.network(name), stage, chosen.n_each, chosen.image_size)


def are_known(work: Workspace, names: Sequence[str]) -> bool:
    """Tell whether networks are known; those that are not are told elsewhere.

    Parameters
    ----------
    work : Workspace
        The study.
    names : sequence of str
        Networks.

    Returns
    -------
    bool
        Whether all are names of networks, and TOML files are there.
    """
    try:
        return all(is_model(work.network(name)) for name in names)
    except InputError:
        return False


def check_names(work: Workspace, networks: Sequence[str]) -> None:
    """Refuse networks that have one name, by which their numbers could not be told apart.

    Parameters
    ----------
    work : Workspace
        The study.
    networks : sequence of str
        Known networks of a pair.

    Raises
    ------
    InputError
        When TOML files give two of them the same name.
    """
    files: dict[str, str] = {}
    for network in networks:
        is_own = network.endswith(".toml")
        name = read_own_network(work.network(network))[0] if is_own else network
        if name in files:
            raise InputError(
                f"{files[name]} and {network} are both named '{name}'; give each a name of its own "
                'in its TOML file, as name = "mine".'
            )
        files[name] = network


def check_units(network: str, stage: str, n_each: int, image_size: int) -> None:
    """Refuse more eigendistortions than a stage has units; one needs no look at the network.

    Parameters
    ----------
    network : str
        Name of a network.
    stage : str
        A stage of it.
    n_each : int
        Eigendistortions at each end.
    image_size : int
        Height and width in pixels; 0: those of the network.

    Raises
    ------
    InputError
        When there are too few units.
    """
    from stimuli_gen.depth import at_stages
    from stimuli_gen.eigendistortions import check_n_each
    from stimuli_gen.matching import at_size

    if n_each == 1:
        return
    model = load_model(network, weights="random", device="cpu")
    view, (name,) = at_stages(at_size(model, image_size) if image_size else model, [stage])
    image = np.full((3, *view.preprocessing.size), 0.5, dtype=np.float32)
    check_n_each(view, name, image, n_each)


def check_stages(name: str, stages: Sequence[str]) -> None:
    """Refuse stages that a network does not have; its weights are not needed for that.

    Parameters
    ----------
    name : str
        Name of a network.
    stages : sequence of str
        Names, depths in words, or fractions of depth.

    Raises
    ------
    InputError
        When there is no such stage.
    """
    from stimuli_gen.depth import DEPTHS, at_stages

    if not set(stages) <= {*model_entry(name).stages, *DEPTHS}:
        at_stages(load_model(name, weights="random", device="cpu"), stages)


def _photograph_ids(work: Workspace) -> list[str]:
    """Name the photographs that images are made of."""
    source = work.settings.images.source
    if source == "packaged":
        return list(PACKAGED)
    return [str(name) for name in list_photographs(work.source(source)).table["id"]]


def stage_of_each(
    work: Workspace, section: str, sets: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Name the stages of networks.

    Parameters
    ----------
    work : Workspace
        The study.
    section : {"controversial", "divergent", "eigendistortion"}
        Section of the settings.
    sets : sequence of sequence of str
        Known networks of it that see the same images.

    Yields
    ------
    tuple of str
        Network and stage; none where classes are compared.

    Raises
    ------
    InputError
        When a network is not compared, or has no or several stages.
    """
    names = list(dict.fromkeys(itertools.chain(*sets)))
    if section == "eigendistortion":
        yield from [place for place in distorted_networks(work) if place[0] in names]
        return
    text = getattr(work.settings, section).stage
    if not text:
        return
    stages = read_stages(text)
    if isinstance(stages, Mapping):
        for name in stages:
            if name not in names:
                raise unknown_name("network", name, names)
    for name in names:
        own = stages.get(name, []) if isinstance(stages, Mapping) else stages
        listed = [own] if isinstance(own, str) else own
        if len(listed) != 1:
            raise InputError(
                f"one stage a network is compared, and {name} has {len(listed)}; give one each."
            )
        yield name, listed[0]


def check_size(names: Sequence[str], image_size: int) -> None:
    """Refuse a size that a network cannot see; where all see the same anyhow, none is built.

    Parameters
    ----------
    names : sequence of str
        Networks that see the same images.
    image_size : int
        Height and width in pixels; 0: those of the first.

    Raises
    ------
    InputError
        When sizes differ and none is given, or a network cannot see it.
    """
    from stimuli_gen.matching import at_size

    sizes = {name: model_entry(name).preprocessing.size for name in names}
    height, width = sizes[names[0]]
    if not image_size and height != width:
        if len(set(sizes.values())) == 1:
            return
        listed = ", ".join(f"{name} {size[0]} x {size[1]}" for name, size in sizes.items())
        raise InputError(f"networks see images of different sizes ({listed}); give image_size.")
    if not image_size and len(names) == 1:
        return
    wanted = image_size or height
    for name, size in sizes.items():
        if size != (wanted, wanted):
            at_size(load_model(name, weights="random", device="cpu"), wanted)


def check_bank(work: Workspace, made: Sequence[str]) -> None:
    """Count the images with which each is compared.

    Parameters
    ----------
    work : Workspace
        The study.
    made : sequence of str
        Photographs for which images are made.

    Raises
    ------
    InputError
        When they are too few.
    """
    from stimuli_gen.controversial_stages import FEWEST

    chosen = work.settings.controversial
    ids = _photograph_ids(work)
    bank = ids
    if chosen.bank:
        bank = [str(name) for name in list_photographs(work.source(chosen.bank)).table["id"]]
    fewest = min((len(set(bank) - {name}) for name in made), default=len(bank))
    if fewest < FEWEST:
        raise InputError(
            f"a profile needs at least {FEWEST} images beside an image's own, and there are "
            f"{fewest}; give more photographs, or a larger bank."
        )


def check_classes(work: Workspace, made: Sequence[str]) -> None:
    """Refuse networks of different classes, and targets that are no classes or the same.

    Parameters
    ----------
    work : Workspace
        The study.
    made : sequence of str
        Photographs for which images are made.

    Raises
    ------
    InputError
        The first of these.
    """
    from stimuli_gen.targets import class_index, class_indices, read_targets

    chosen = work.settings.controversial
    for first, second in chosen.pairs:
        if not are_known(work, (first, second)):
            continue
        classes = list(model_entry(work.network(first)).classes())
        others = list(model_entry(work.network(second)).classes())
        if not (classes and others):  # known when they are loaded
            continue
        if classes != others:
            raise InputError(
                f"{first} and {second} have different classes ({len(classes)} and {len(others)}, "
                "or other names); give networks of the same classes, or a stage."
            )
        targets = []
        for target in (chosen.target_a, chosen.target_b):
            if target.endswith(".csv"):
                given = read_targets(work.source(target), made)
                targets.append(class_indices(given, made, classes, first))
            elif target not in RULES:
                index = class_index(target, "each photograph", classes, first)
                targets.append(dict.fromkeys(made, index))
        same = [name for name in made if len(targets) == 2 and targets[0][name] == targets[1][name]]
        if same:
            raise InputError(
                f"target_a and target_b are the same class, '{classes[targets[0][same[0]]]}', for "
                f'{name_ids(same)}; give two classes, or target_b = "random".'
            )


RULES = ("own", "random", "least_likely", "another_category", "given")
"""Targets that are no classes themselves."""
