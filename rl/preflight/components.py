"""What the components of one run must find: packages, weights, servers. Read from their sources, imported by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from rewards.library.models.downloads import absent, download_command
from rewards.needs import settle_needs
from rewards.remote.reach import refusals
from rewards.requires import Requires, declared_requires
from rl.config.declared import declarations, read_source, wrong_options
from rl.config.schema import Config, components
from rl.preflight.requirements import check_required
from rl.registry import locate
from rl.types import UserError


@dataclass(frozen=True)
class Used:
    """A component that a run uses: ``at``, the key of its options."""

    kind: str
    use: str
    at: str
    options: Mapping[str, object]
    inner: bool = False
    """Part of another component, which names it."""

    def required(self) -> Iterator[Requires]:
        """What it declares and, with these options, needs: a part where an option names it, no weights that another
        option replaces. Beside weights that are replaced, what no option names is taken to come with them."""
        named = {str(value) for value in self.options.values()}
        for one in declared_requires(self.kind, self.use):
            if one.optional and not self.inner and one.part not in named:
                continue
            options = self.checkpoint_options()
            replaced = any(option in self.options for option in ("checkpoint", *map(options.get, one.weights)))
            here = {name for name, option in options.items() if option not in self.options}
            weights = tuple(name for name in one.weights if name in here or not replaced)
            tokenizers = tuple(name for name in one.tokenizers if name in here or not replaced)
            yield replace(one, weights=weights, tokenizers=tokenizers, optional=False)

    def checkpoint_options(self) -> dict[str, str]:
        """Weights by default -> the option that names others."""
        return {default: option for option, default in self.defaults().items() if isinstance(default, str)}

    def defaults(self) -> dict[str, object]:
        """Of its options, as far as they can be read."""
        source = read_source(self.kind, self.use)
        return source.defaults() if source else {}


def used_by(config: Config) -> Iterator[Used]:
    """The components of a run that work in its own environment, and those that they name in their options."""
    for path, kind, component in components(config):
        reward = config.rewards.get(path[-1]) if path[0] == "rewards" else None
        if reward is not None and settle_needs(path[-1], reward)[0].python is not None:
            continue
        outer = Used(kind, component.use, ".".join((*path, "options")), component.options)
        yield outer
        yield from _parts_of(outer)


def _parts_of(outer: Used) -> Iterator[Used]:
    defaults = outer.defaults()
    for option, kind in declarations(outer.kind, outer.use).parts.items():
        use = outer.options.get(option, defaults.get(option))
        options = outer.options.get(f"{option}_options") or {}
        if isinstance(use, str) and isinstance(options, Mapping):
            yield Used(kind, use, f"{outer.at}.{option}_options", options, inner=True)


def problems(config: Config) -> Iterator[str]:
    """One sentence for everything that a component of the run will certainly not find."""
    used = list(used_by(config))
    for one in used:
        try:
            yield from _of_one(one)
        except UserError as error:
            yield f"{one.at}: {error}"
    yield from _silent_servers(used)


def _of_one(one: Used) -> Iterator[str]:
    if one.inner:
        try:
            locate(one.kind, one.use)
        except UserError as error:
            yield f"{one.at.removesuffix('_options')}: {error}"
            return
        for option, message in wrong_options(one.kind, one.use, one.options):
            yield f"{one.at}.{option}: {message}"
    for wanted in one.required():
        check = check_required(one.kind, one.use, replace(wanted, weights=(), tokenizers=()))
        if check.status != "ok":
            yield f"{one.at.removesuffix('.options')}: {one.use!r} is {check.found}; type `{check.fix}`"
        for name in absent(wanted.weights, wanted.tokenizers):
            if reason := out_of_reach():
                yield _absent(one, name, reason)


def _absent(one: Used, name: str, reason: str) -> str:
    option = one.checkpoint_options().get(name)
    key = one.at.removesuffix(".options") if option is None else f"{one.at}.{option}"
    otherwise = f", or set {key} to the path of the {'file' if ':' in name else 'folder'}" if option else ""
    return (
        f"{key}: {name!r} is not on this machine and can't be downloaded now ({reason}); with a network type "
        f"`{download_command(name)}`{otherwise}"
    )


def out_of_reach() -> str:
    """Why nothing can be downloaded from the hub; empty if it can, or if nobody knows."""
    from huggingface_hub import constants  # 0.2 s, only for those who ask

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return "".join(f"{url}: {why}" for url, why in refusals([constants.ENDPOINT]).items())


def _silent_servers(used: list[Used]) -> Iterator[str]:
    """Of each component, if none of its servers answers."""
    wanted = {
        f"{one.at}.{option}": (one, _addresses(one.options.get(option)))
        for one in used
        for option in declarations(one.kind, one.use).servers
    }
    silent = refusals({url for _, urls in wanted.values() for url in urls})
    for key, (one, urls) in wanted.items():
        if urls and all(url in silent for url in urls):
            reasons = "; ".join(f"{url}: {silent[url]}" for url in urls)
            notes = [required.note for required in declared_requires(one.kind, one.use) if required.note]
            yield f"{key}: nobody answers ({reasons}); {one.use!r} {notes[0] if notes else 'asks a server'}"


def _addresses(value: object) -> list[str]:
    return [str(url) for url in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(url, str)]
