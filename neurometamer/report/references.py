"""The works that the pages cite, in one table.

They are written as text for a reader and as BibTeX for a manuscript.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from neurometamer.zoo import table


@dataclass(frozen=True, kw_only=True)
class Citation:
    """One work in the list of references: its text, its address and what the page uses of it."""

    text: str
    link: str
    use: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One work.

    Parameters
    ----------
    authors : tuple of str
        ``"Zhang C"``: family name, then initials; a name in braces is that of a group.
    year : int
        Year of publication; 0 for software without one.
    title : str
        Title.
    venue : str
        Journal, proceedings or archive, with volume and pages as `where` says.
    kind : str
        BibTeX's type of entry.
    where : mapping of str to str
        BibTeX's fields volume, number, pages.
    link : str
        Address; that of a DOI starts with ``https://doi.org/``.
    """

    authors: tuple[str, ...]
    year: int
    title: str
    venue: str
    link: str
    kind: str = "article"
    where: Mapping[str, str]


def _work(
    authors: str,
    year: int,
    title: str,
    venue: str,
    link: str,
    *,
    kind: str = "article",
    **where: str,
) -> Reference:
    names = tuple(authors.split(", "))
    return Reference(
        authors=names, year=year, title=title, venue=venue, link=link, kind=kind, where=where
    )


_OF_NETWORKS = {key: _work(**fields) for key, fields in table.WORKS.items()}
WORKS: Mapping[str, Reference] = {
    **_OF_NETWORKS,
    "zhang2021": _work(
        "Zhang C, Duan X-H, Wang L-Y, Li Y-L, Yan B, Hu G-E, Zhang R-Y, Tong L",
        2021,
        "Dissociable neural representations of adversarially perturbed images in convolutional "
        "neural networks and the human brain",
        "Frontiers in Neuroinformatics",
        "https://doi.org/10.3389/fninf.2021.677925",
        volume="15",
        pages="677925",
    ),
    "kriegeskorte2008": _work(
        "Kriegeskorte N, Mur M, Bandettini P",
        2008,
        "Representational similarity analysis – connecting the branches of systems neuroscience",
        "Frontiers in Systems Neuroscience",
        "https://doi.org/10.3389/neuro.06.004.2008",
        volume="2",
        pages="4",
    ),
    "kriegeskorte2006": _work(
        "Kriegeskorte N, Goebel R, Bandettini P",
        2006,
        "Information-based functional brain mapping",
        "PNAS",
        "https://doi.org/10.1073/pnas.0600244103",
        volume="103",
        pages="3863–3868",
    ),
    "nili2014": _work(
        "Nili H, Wingfield C, Walther A, Su L, Marslen-Wilson W, Kriegeskorte N",
        2014,
        "A toolbox for representational similarity analysis",
        "PLoS Computational Biology",
        "https://doi.org/10.1371/journal.pcbi.1003553",
        volume="10",
        pages="e1003553",
    ),
    "schutt2023": _work(
        "Schütt HH, Kipnis AD, Diedrichsen J, Kriegeskorte N",
        2023,
        "Statistical inference on representational geometries",
        "eLife",
        "https://doi.org/10.7554/eLife.82566",
        volume="12",
        pages="e82566",
    ),
    "tarhan2020": _work(
        "Tarhan L, Konkle T",
        2020,
        "Reliability-based voxel selection",
        "NeuroImage",
        "https://doi.org/10.1016/j.neuroimage.2019.116350",
        volume="207",
        pages="116350",
    ),
    "allen2022": _work(
        "Allen EJ, St-Yves G, Wu Y, Breedlove JL, Prince JS, Dowdle LT, Nau M, Caron B, "
        "Pestilli F, Charest I, Hutchinson JB, Naselaris T, Kay K",
        2022,
        "A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence",
        "Nature Neuroscience",
        "https://doi.org/10.1038/s41593-021-00962-x",
        volume="25",
        pages="116–126",
    ),
    "nguyen2015": _work(
        "Nguyen A, Yosinski J, Clune J",
        2015,
        "Deep neural networks are easily fooled: high confidence predictions for unrecognizable "
        "images",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        "https://doi.org/10.1109/CVPR.2015.7298640",
        kind="inproceedings",
        pages="427–436",
    ),
    "boehm2025": _work(
        "Boehm L, Mueller JL, Loeffler C, Schwinn L, Eskofier B, Zanca D",
        2025,
        "Understanding cross-model perceptual invariances through ensemble metamers",
        "arXiv 2504.01739",
        "https://arxiv.org/abs/2504.01739",
        kind="misc",
    ),
    "golan2020": _work(
        "Golan T, Raju PC, Kriegeskorte N",
        2020,
        "Controversial stimuli: pitting neural networks against each other as models of human "
        "cognition",
        "PNAS",
        "https://doi.org/10.1073/pnas.1912334117",
        volume="117",
        pages="29330–29337",
    ),
    "wang2008": _work(
        "Wang Z, Simoncelli EP",
        2008,
        "Maximum differentiation (MAD) competition: a methodology for comparing computational "
        "models of perceptual quantities",
        "Journal of Vision",
        "https://doi.org/10.1167/8.12.8",
        volume="8",
        pages="8",
    ),
    "berardino2017": _work(
        "Berardino A, Ballé J, Laparra V, Simoncelli EP",
        2017,
        "Eigen-distortions of hierarchical representations",
        "Advances in Neural Information Processing Systems",
        "https://arxiv.org/abs/1710.02266",
        kind="inproceedings",
        volume="30",
    ),
    "geirhos2018": _work(
        "Geirhos R, Temme CRM, Rauber J, Schütt HH, Bethge M, Wichmann FA",
        2018,
        "Generalisation in humans and deep neural networks",
        "Advances in Neural Information Processing Systems",
        "https://arxiv.org/abs/1808.08750",
        kind="inproceedings",
        volume="31",
    ),
    "geirhos2020": _work(
        "Geirhos R, Meding K, Wichmann FA",
        2020,
        "Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by measuring "
        "error consistency",
        "Advances in Neural Information Processing Systems",
        "https://arxiv.org/abs/2006.16736",
        kind="inproceedings",
        volume="33",
    ),
    "jeon2025": _work(
        "Jeon H, Parde CJ, Tong F",
        2025,
        "Metamers of networks trained on clear and on blurred images",
        "Vision Sciences Society, abstract",
        "https://www.visionsciences.org",
        kind="misc",
    ),
    "jang2021": _work(
        "Jang H, McCormack D, Tong F",
        2021,
        "Noise-trained deep neural networks effectively predict human vision and its neural "
        "responses to challenging images",
        "PLoS Biology",
        "https://doi.org/10.1371/journal.pbio.3001418",
        volume="19",
        number="12",
        pages="e3001418",
    ),
    "madry2018": _work(
        "Mądry A, Makelov A, Schmidt L, Tsipras D, Vladu A",
        2018,
        "Towards deep learning models resistant to adversarial attacks",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1706.06083",
        kind="inproceedings",
    ),
    "detlefsen2022": _work(
        "Detlefsen NS, Borovec J, Schock J, Jha AH, Koker T, Di Liello L, Stancl D, Quan C, "
        "Grechkin M, Falcon W",
        2022,
        "TorchMetrics – measuring reproducibility in PyTorch",
        "Journal of Open Source Software",
        "https://doi.org/10.21105/joss.04101",
        volume="7",
        number="70",
        pages="4101",
    ),
    "greenhouse1959": _work(
        "Greenhouse SW, Geisser S",
        1959,
        "On methods in the analysis of profile data",
        "Psychometrika",
        "https://doi.org/10.1007/BF02289823",
        volume="24",
        pages="95–112",
    ),
    "vallat2018": _work(
        "Vallat R",
        2018,
        "Pingouin: statistics in Python",
        "Journal of Open Source Software",
        "https://doi.org/10.21105/joss.01026",
        volume="3",
        number="31",
        pages="1026",
    ),
    "morey2008": _work(
        "Morey RD",
        2008,
        "Confidence intervals from normalized data: a correction to Cousineau (2005)",
        "Tutorials in Quantitative Methods for Psychology",
        "https://doi.org/10.20982/tqmp.04.2.p061",
        volume="4",
        pages="61–64",
    ),
    "nichols2002": _work(
        "Nichols TE, Holmes AP",
        2002,
        "Nonparametric permutation tests for functional neuroimaging: a primer with examples",
        "Human Brain Mapping",
        "https://doi.org/10.1002/hbm.1058",
        volume="15",
        pages="1–25",
    ),
    "kruskal1964": _work(
        "Kruskal JB",
        1964,
        "Multidimensional scaling by optimizing goodness of fit to a nonmetric hypothesis",
        "Psychometrika",
        "https://doi.org/10.1007/BF02289565",
        volume="29",
        pages="1–27",
    ),
    "maaten2008": _work(
        "van der Maaten L, Hinton G",
        2008,
        "Visualizing data using t-SNE",
        "Journal of Machine Learning Research",
        "https://www.jmlr.org/papers/v9/vandermaaten08a.html",
        volume="9",
        pages="2579–2605",
    ),
    "benjamini1995": _work(
        "Benjamini Y, Hochberg Y",
        1995,
        "Controlling the false discovery rate: a practical and powerful approach to multiple "
        "testing",
        "Journal of the Royal Statistical Society B",
        "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x",
        volume="57",
        pages="289–300",
    ),
    "holm1979": _work(
        "Holm S",
        1979,
        "A simple sequentially rejective multiple test procedure",
        "Scandinavian Journal of Statistics",
        "https://www.jstor.org/stable/4615733",
        volume="6",
        pages="65–70",
    ),
    "mann1945": _work(
        "Mann HB",
        1945,
        "Nonparametric tests against trend",
        "Econometrica",
        "https://doi.org/10.2307/1907187",
        volume="13",
        pages="245–259",
    ),
    "mumford2012": _work(
        "Mumford JA, Turner BO, Ashby FG, Poldrack RA",
        2012,
        "Deconvolving BOLD activation in event-related designs for multivoxel pattern "
        "classification analyses",
        "NeuroImage",
        "https://doi.org/10.1016/j.neuroimage.2011.08.076",
        volume="59",
        pages="2636–2643",
    ),
    "kay2013": _work(
        "Kay KN, Rokem A, Winawer J, Dougherty RF, Wandell BA",
        2013,
        "GLMdenoise: a fast, automated technique for denoising task-based fMRI data",
        "Frontiers in Neuroscience",
        "https://doi.org/10.3389/fnins.2013.00247",
        volume="7",
        pages="247",
    ),
    "prince2022": _work(
        "Prince JS, Charest I, Kurzawski JW, Pyles JA, Tarr MJ, Kay KN",
        2022,
        "Improving the accuracy of single-trial fMRI response estimates using GLMsingle",
        "eLife",
        "https://doi.org/10.7554/eLife.77599",
        volume="11",
        pages="e77599",
    ),
    "rokem2020": _work(
        "Rokem A, Kay K",
        2020,
        "Fractional ridge regression: a fast, interpretable reparameterization of ridge regression",
        "GigaScience",
        "https://doi.org/10.1093/gigascience/giaa133",
        volume="9",
        pages="giaa133",
    ),
    "paszke2019": _work(
        "Paszke A, Gross S, Massa F, Lerer A, Bradbury J, Chanan G, Killeen T, Lin Z, Gimelshein "
        "N, Antiga L, others",
        2019,
        "PyTorch: an imperative style, high-performance deep learning library",
        "Advances in Neural Information Processing Systems",
        "https://arxiv.org/abs/1912.01703",
        kind="inproceedings",
        volume="32",
    ),
    "nilearn": _work(
        "{Nilearn contributors}",
        0,
        "nilearn",
        "Zenodo",
        "https://doi.org/10.5281/zenodo.8397156",
        kind="misc",
    ),
}
"""Key, also that of BibTeX, to the work; those of networks are in the table of networks."""
NETWORKS: Mapping[str, tuple[str, ...]] = {
    name: entry.cites for name, entry in table.MODELS.items()
}
"""Name of a network to the keys of the works that describe its architecture and its training."""


def reference_text(key: str) -> str:
    """Write a work as it stands in a list of references.

    Parameters
    ----------
    key : str
        Key of `WORKS`.

    Returns
    -------
    str
        Without its address.

    Examples
    --------
    >>> reference_text("tarhan2020")
    'Tarhan L, Konkle T (2020). Reliability-based voxel selection. NeuroImage 207:116350.'
    """
    work = WORKS[key]
    names = ", ".join(work.authors).replace(", others", " et al.").strip("{}")
    if work.year:
        names = f"{names} ({work.year})"
    volume = work.where.get("volume", "")
    if "number" in work.where:
        volume += f"({work.where['number']})"
    pages = work.where.get("pages", "")
    numbers = ":".join(filter(None, [volume, pages]))
    venue = f"{work.venue} {numbers}".strip()
    return f"{names}. {work.title}. {venue}."


def citations(uses: Mapping[str, str]) -> list[Citation]:
    """List the works that a page cites.

    Parameters
    ----------
    uses : mapping of str to str
        Key of `WORKS` to what the page uses of the work.

    Returns
    -------
    list of Citation
        In the order given.
    """
    cited = []
    for key, use in uses.items():
        cited.append(
            Citation(
                text=reference_text(key),
                link=WORKS[key].link,
                use=use,
            )
        )
    return cited


def bibtex(keys: Iterable[str], version: str = "") -> str:
    r"""Write works as BibTeX, neurometamer itself first.

    Parameters
    ----------
    keys : iterable of str
        Keys of `WORKS`; repeated ones are written once.
    version : str
        Version of neurometamer; empty when it is not known.

    Returns
    -------
    str
        Entries, a blank line between them.

    Examples
    --------
    >>> print(bibtex(["holm1979"]).split("\n\n")[1].strip())
    @article{holm1979,
      author = {Holm, S.},
      year = {1979},
      title = {{A simple sequentially rejective multiple test procedure}},
      journal = {Scandinavian Journal of Statistics},
      volume = {6},
      pages = {65--70},
      url = {https://www.jstor.org/stable/4615733},
    }
    """
    own = {
        "author": "{The neurometamer developers}",
        "title": "{neurometamer}",
    }
    if version:
        own["note"] = f"Version {version}"
    entries = [_entry("misc", "neurometamer", own)]
    for key in dict.fromkeys(keys):
        work = WORKS[key]
        entries.append(_entry(work.kind, key, _fields(work)))
    return "\n\n".join(entries) + "\n"


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"@{kind}{{{key},"]
    for name, value in fields.items():
        lines.append(f"  {name} = {{{value}}},")
    return "\n".join([*lines, "}"])


VENUES = {
    "article": "journal",
    "inproceedings": "booktitle",
    "misc": "howpublished",
}
"""BibTeX's type of entry to its field for where a work appeared."""


def _fields(work: Reference) -> dict[str, str]:
    authors = []
    for author in work.authors:
        name = author
        if "{" not in author and author != "others":
            # "Duan X-H" becomes "Duan, X.-H."; the names of groups stay.
            family, initials = author.rsplit(" ", 1)
            parts = [". ".join(letters) + "." for letters in initials.split("-")]
            name = f"{family}, {'-'.join(parts)}"
        authors.append(name)
    fields = {"author": " and ".join(authors)}
    if work.year:
        fields["year"] = str(work.year)
    fields["title"] = f"{{{_escaped(work.title)}}}"
    fields[VENUES[work.kind]] = _escaped(work.venue)
    for name, value in work.where.items():
        fields[name] = _escaped(value)
    address = work.link.removeprefix("https://doi.org/")
    fields["url" if address == work.link else "doi"] = address
    return fields


def _escaped(text: str) -> str:
    escapes = {
        "–": "--",
        "&": r"\&",
        "<": r"\textless{}",
    }
    for character, escaped in escapes.items():
        text = text.replace(character, escaped)
    return text
