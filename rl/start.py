"""From a command line to a run: read the configuration, check the data, take the folder, and only then load torch."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rewards.pool.alongside import rewards_starting
from rewards.pool.worker_handle import kill_workers
from rl.config import shipped
from rl.config.load import load_with_origins
from rl.config.origins import Origins
from rl.config.rules import check, idle, notes
from rl.config.schema import Config
from rl.config.sections.cluster_rules import ranks_of
from rl.preflight.machine import check_machine
from rl.preflight.memory.planning import found_by, settled
from rl.preflight.prompts import check_data, notes_on
from rl.process.command import command as told_as_mistakes
from rl.process.disk import folder_errors, quiet_writers
from rl.process.host import (
    allow_open_files,
    check_temporary_folder,
    name_user,
)
from rl.process.interrupt import Interrupt
from rl.process.loading import loading
from rl.process.out_of_memory import memory_of_phase
from rl.process.output import shown
from rl.process.ranks import OtherRanks, Place, failures_told_to_torchrun, settle_world, take_place
from rl.run_folder import checkpoint
from rl.run_folder.checkpoint import Checkpoint
from rl.run_folder.claim import CONFIG_FILE, begin_new, is_free, write_configuration, written_by_a_run
from rl.run_folder.environment import typed_command
from rl.run_folder.experience import goes_on_exactly
from rl.run_folder.inputs import Inputs, compare_inputs, fingerprints, record_inputs
from rl.run_folder.lock import hold
from rl.run_folder.resume import Resumed, listed, resumed
from rl.tracking.services import check_trackers
from rl.trainer.schedule import learning_rate
from rl.types import RunFailure, UserError


@dataclass(frozen=True)
class Command:
    """What was typed: the parts, and ``arguments`` as they came."""

    config: str
    overrides: Sequence[str]
    arguments: Sequence[str]
    dry_run: bool = False
    resume: bool = False


@told_as_mistakes
def start(command: Command, interrupt: Interrupt) -> int:
    """The whole of a command; returns its exit code. Mistakes are one message."""
    try:
        return _start(command, interrupt)
    except RunFailure as error:
        print(shown(f"error: the run cannot go on: {error}"), file=sys.stderr)
        return 3
    except PermissionError as error:  # before the folder is held: somebody else's run, a prompt file
        raise UserError(f"{error.filename or command.config}: this user may not read or write it") from error


def _start(command: Command, interrupt: Interrupt) -> int:
    name_user(os.environ)
    place, note = take_place(os.environ)
    with failures_told_to_torchrun(place):
        if place.first:
            return _lead(command, interrupt, place, note)
        return 0 if command.dry_run else _follow(place, interrupt)


def _lead(command: Command, interrupt: Interrupt, place: Place, note: str | None) -> int:
    if where := shipped.note(Path(command.config)):
        print(shown(where), file=sys.stderr)
    config, going_on, origins = _configuration(command, place)
    if not command.dry_run:
        _announce(command, config, going_on, note)
    with origins.named():
        train_prompts, eval_prompts = check_data(config)
        check_trackers(config.tracking)
        check_machine(config, place.local_world if place.by_torchrun else config.train.ranks)
        asked, config = config, settled(config, [*train_prompts, *eval_prompts])
    own = () if going_on or written_by_a_run(Path(command.config)) else idle(config, origins, _file(command))
    for told in (*notes(config), *own, *notes_on(train_prompts, eval_prompts), *found_by(asked, config)):
        print(shown(f"note: {told}"), file=sys.stderr)
    if command.dry_run:
        from rl.dry_run import describe

        print(describe(config, train_prompts, eval_prompts))
        return 0
    allow_open_files()
    check_temporary_folder()
    learnt_from = "supervised.examples" if config.supervised else "data.train"
    inputs = fingerprints(config, {learnt_from: train_prompts, "data.eval": eval_prompts})
    quiet_writers()
    folder = Path(str(config.run.folder))
    with memory_of_phase("start"), folder_errors(folder), hold(folder) as release:
        interrupt.closing += [release, kill_workers]
        saved = _take_folder(config, going_on, inputs)
        if going_on is not None and _finished(config, saved):
            return 0
        prompts, typed = (train_prompts, eval_prompts), typed_command(command.arguments)
        with (
            _cluster(config, interrupt),
            _other_ranks(config, place, command, interrupt) as others,
            rewards_starting(config) as rewards,
        ):
            with loading():
                from rl.loop import run
            ranks = others.place if others else place
            return run(
                config,
                prompts,
                saved,
                interrupt,
                rewards=rewards,
                resume=going_on is not None,
                command=typed,
                place=ranks,
                others=others,
            )


def _file(command: Command) -> str:
    """The configuration that was named, as its keys' places call it."""
    return str(shipped.find(Path(command.config)))


def _follow(place: Place, interrupt: Interrupt) -> int:
    interrupt.words = ""  # rank 0 says it
    allow_open_files()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or it tells in C++ what becomes one sentence
    with loading():
        from rl.ranks.follow import follow
    return follow(place, interrupt)


def _cluster(config: Config, interrupt: Interrupt) -> AbstractContextManager[None]:
    """Connected to it, before rewards look for one; Ray is loaded for those who use it."""
    if not config.loop.ahead:
        return nullcontext()
    from rl.cluster.places import on_cluster

    return on_cluster(config, interrupt)


@contextmanager
def _other_ranks(config: Config, place: Place, command: Command, interrupt: Interrupt) -> Iterator[OtherRanks | None]:
    """Those that nobody else starts; none is left behind."""
    if place.by_torchrun or config.train.ranks == 1:
        yield None
        return
    others = OtherRanks(config.train.ranks, command.arguments)
    interrupt.closing.append(others.kill)
    try:
        yield others
    finally:
        others.kill()


def _configuration(command: Command, place: Place) -> tuple[Config, Resumed | None, Origins]:
    """The run's configuration, and where it comes from if an earlier start is to go on.

    A folder in which no step was done has nothing to go on with: such a run begins, with what is typed now.
    """
    typed, origins = load_with_origins(command.config, command.overrides, rules=not command.resume)
    folder = _folder(command, typed)
    typed = typed.model_copy(update={"run": typed.run.model_copy(update={"folder": str(folder)})})
    said = any(override.startswith("train.ranks=") for override in command.overrides)
    typed = _with_ranks(typed, place, said=said or (typed.train.ranks != 1 and not command.resume))
    if not command.resume:
        return typed, None, origins
    saved = (folder / CONFIG_FILE).is_file()
    if not saved and not command.dry_run:
        raise UserError(f"run.folder: {folder} holds no run to resume; start it without --resume.")
    if not saved or is_free(folder):
        load_with_origins(command.config, command.overrides)  # it is run as it is, after all
        return typed, None, origins
    found = resumed(folder, typed, command.overrides)
    return _with_ranks(found.config, place, said=said), found, origins


def _with_ranks(config: Config, place: Place, *, said: bool) -> Config:
    """Raises: UserError if as many ranks as there are can't share a step."""
    ranks = settle_world(place, config.train.ranks, said=said)
    settled = config.model_copy(update={"train": config.train.model_copy(update={"ranks": ranks})})
    for key, message in check(settled) if ranks != config.train.ranks else ():
        raise UserError(f"{key}: {message}")
    return settled


def _folder(command: Command, typed: Config) -> Path:
    """``run.folder``; to a resume, a run's own ``config.yaml`` means the folder that it lies in, moved or not."""
    file, folder = Path(command.config), Path(str(typed.run.folder))
    named = any(override.startswith("run.folder=") for override in command.overrides)
    if not command.resume or named or file.name != CONFIG_FILE or not written_by_a_run(file):
        return folder
    return folder if folder.resolve() == file.parent.resolve() else file.parent


def _announce(command: Command, config: Config, going_on: Resumed | None, note: str | None) -> None:
    if config.tracking.console == "off":
        return
    kept = checkpoint.found(Path(str(config.run.folder)))
    again = "" if going_on is None else "going on, " if kept else "from the beginning (no checkpoint yet), "
    steps = f"{config.train.steps} step{'' if config.train.steps == 1 else 's'}"
    ranks = f" on {ranks_of(config)} ranks" if ranks_of(config) > 1 else ""
    target = f"{config.run.folder}, {again}{steps}{ranks}"
    lines = [f"easel-rl: {command.config} -> {target}; loading torch, engine and rewards"]
    lines += [note] if note else []
    if going_on is not None and going_on.changed:
        lines.append(f"note: changed for the rest of the run: {listed(going_on.changed)}")
    if going_on is not None and going_on.ignored:
        saved = Path(str(config.run.folder)) / CONFIG_FILE
        lines.append(
            f"note: {saved} goes on, where {command.config} says otherwise: {listed(going_on.ignored)}; to change what "
            "may change, type it as key=value"
        )
    print(shown("\n".join(lines)), flush=True)


def _take_folder(config: Config, going_on: Resumed | None, inputs: Inputs) -> Checkpoint | None:
    """Inside the lock: a new run's files, or the checkpoint that is gone on with."""
    folder = Path(str(config.run.folder))
    if going_on is None:
        begin_new(config, folder)
        checkpoint.clean(folder)
        record_inputs(folder, inputs)
        return None
    for sentence in compare_inputs(folder, inputs):
        print(shown(sentence), flush=True)
    checkpoint.clean(folder)
    exact = partial(goes_on_exactly, folder, steps=config.train.steps, staleness=config.loop.staleness)
    saved = checkpoint.latest(folder, exact)
    if note := _passed_over(folder, saved):
        print(shown(note), flush=True)
    if saved is not None and (jump := rate_jump(config, going_on, saved.state["version"])):
        print(shown(jump), flush=True)
    write_configuration(config, folder)
    return saved


def _passed_over(folder: Path, saved: Checkpoint | None) -> str | None:
    """What is said where the newest checkpoint can't be gone on from."""
    newest, chosen = checkpoint.newest(folder), saved.step if saved else 0
    if newest is None or newest <= chosen:
        return None
    where = f"the checkpoint of step {chosen}" if chosen else "the beginning"
    return (
        f"note: what comes after the checkpoint of step {newest} was begun with weights that are gone, and is not in "
        f"the log; going on from {where}, with what is logged learnt again"
    )


def rate_jump(config: Config, going_on: Resumed, updates: int) -> str | None:
    """What more steps do to a schedule that ends with the run, of the first network that learns; and the way on."""
    before = next((one.saved for one in going_on.changed if one.key == "train.steps"), None)
    first, now = config.learning[0], config.train.steps
    if not isinstance(before, int) or first.schedule == "constant":
        return None
    old, new = (learning_rate(first, updates, config.steps_of(first, steps)) for steps in (before, now))
    if f"{old:.2g}" == f"{new:.2g}":
        return None
    key = f"{first.section}.schedule"
    return (
        f"note: {key} {first.schedule} ends with the run, so with {now} instead of {before} steps the "
        f"learning rate jumps from {old:.2g} to {new:.2g} here; to train on without that, start a new run from this "
        f"one's policy: policy.path={shlex.quote(f'{config.run.folder}/policy')} {key}=constant run.folder=..."
    )


def _finished(config: Config, saved: Checkpoint | None) -> bool:
    """Whether nothing is left to do, which is then said."""
    folder, last = Path(str(config.run.folder)), config.train.steps
    ended = (folder / "policy").is_dir() and (folder / "report.html").is_file()
    if saved is None or saved.step < last or not ended:
        return False
    again = f"python -m rl.launch {shlex.quote(str(folder / CONFIG_FILE))} --resume train.steps={2 * max(last, 1)}"
    print(shown(f"{folder}: this run is finished ({saved.step} of {last} steps); raise train.steps to go on: {again}"))
    return True
