"""The first half of a run on a cluster: its workers, the store of its weights, and how the run reaches them."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
import torch

from policy.base import Policy
from policy.lora.targets import adapter_parameters, linear_layers
from rl.acting.engines import longest_prompt
from rl.acting.place import shared_out
from rl.build import sync_tolerance
from rl.cluster.ahead import Ahead
from rl.cluster.crew import Crew
from rl.cluster.jobs import SetsThere, WorkerStart
from rl.cluster.places import needs_of, require_room_for_pictures, trainer_needs
from rl.cluster.publisher import Sets, WeightPublisher
from rl.cluster.references import StoredReferences
from rl.cluster.remote_sampler import RemoteSampler
from rl.cluster.training.painters import CrewPainters
from rl.cluster.training.part import RemoteSets
from rl.cluster.training.remote import RemoteTraining
from rl.cluster.weights.server import WeightServer, serve_weights
from rl.cluster.weights.store import WeightStore
from rl.cluster.worker.held import base_of
from rl.collect import Collect
from rl.config.schema import Config
from rl.data.drawing.ahead import DrawnAhead
from rl.data.drawing.draws import PromptDraws
from rl.data.task_stream import Stream, prompt_stream
from rl.preflight.memory.planning import states_kept
from rl.process.interrupt import FAILED, Interrupt
from rl.run_folder import checkpoint
from rl.tracking.tracker import Tracker
from rl.types import Prompt
from rollout.samplers.contract import Sampler
from rollout.sync import WeightChannel

_SPARE = 2  # sets beside those that jobs may name: one that is being written, one that somebody still reads


class ActingOnCluster:
    """See :class:`rl.acting.place.Acting`."""

    def __init__(
        self,
        crews: Mapping[str, Crew],
        done: int,
        training: RemoteTraining | None = None,
        give_up: Callable[[str], None] = lambda why: None,
    ) -> None:
        """``done``: steps before this start of the run; ``training``: the trainers, where they are not this process;
        ``give_up``: ends the run from any thread."""
        self.training = training
        self._give_up = give_up
        self._servers: list[WeightServer] = []
        self._crews, self._done = crews, done
        self._run = uuid.uuid4().hex
        self._publisher: WeightPublisher | None = None

    def start_sampler(self, config: Config, policy: Policy, prompts: list[Prompt], ranks: int) -> Sampler:
        """All workers and trainers load; their samplers are one to whoever asks between two steps."""
        if config.cluster.painters:
            sees = policy.decoder.reference is not None and any(prompt.pictures for prompt in prompts)
            pixels, way = 3 * policy.decoder.picture_side**2, _way_bytes(config, policy)
            require_room_for_pictures(config, pixels, way_bytes=way, references=sees)
        sets = config.loop.staleness + 1
        room = _set_bytes(config, policy) * (sets + _SPARE)
        store, node = self._store(room)
        self._publisher = WeightPublisher(store, self._crews, staleness=config.loop.staleness, next=self._done)
        start = WorkerStart(
            config=_anywhere(config),
            ar=self._there(config, "ar", self._run, room, node, adapters=config.train.lora is not None),
            sets=sets,
            max_prompt_tokens=longest_prompt(config, policy, prompts),
            tolerance=sync_tolerance(config, policy.ar.config.num_hidden_layers),
            decoder=self._decoder(config, policy, sets) if config.painters_follow else None,
        )
        for crew in self._crews.values():
            crew.load(start)
        if self.training is not None:
            painters = CrewPainters(self._crews["paint"], self._publisher, config)
            self.training.load(start.config, self._run, room, painters)
        for crew in self._crews.values():
            crew.wait()
        self._encode, self._side = policy.encode_prompt, policy.decoder.picture_side
        return RemoteSampler(self._crews["sample"], self._publisher, self._encode)

    def collector(
        self,
        config: Config,
        act: Collect,
        prompts: Sequence[Prompt],
        draws: PromptDraws | None,
        tracker: Tracker,
    ) -> Ahead:
        assert self._publisher is not None  # the sampler is started first
        stream: Stream = (
            prompt_stream(config.data, prompts, config.run.seed)
            if draws is None
            else DrawnAhead(draws, config.data.prompts_per_step, config.loop.staleness, shared_out(config))
        )
        ahead = Ahead(config, act, stream, self._encode, self._crews, self._publisher, tracker)
        ahead.references = StoredReferences(self._side) if act.sees_references else None
        if (training := self.training) is not None:
            ahead.restarts = lambda: training.restarts
        return ahead

    def weights_out(self, config: Config, sampler: Sampler, tolerance: float) -> WeightChannel:
        assert self._publisher is not None
        return self._publisher

    def close(self) -> None:
        for crew in self._crews.values():
            crew.close()
        if self.training is not None:
            self.training.close()
        for server in self._servers:
            server.close()
        if self._publisher is not None:
            self._publisher.discard()

    def _decoder(self, config: Config, policy: Policy, sets: int) -> SetsThere:
        """A store of its own, for its sets are of other steps than the language model's. Painters alone follow it."""
        assert self._publisher is not None and config.trained_decoder is not None
        run, lora = f"{self._run}-decoder", config.trained_decoder.lora
        room = _decoder_bytes(config, policy) * (sets + _SPARE)
        store, painters = WeightStore.open(run, room=room), {"paint": self._crews["paint"]}
        staleness = config.loop.staleness
        self._publisher.beside = WeightPublisher(store, painters, staleness, next=self._done, part="decoder")
        node = ray.get_runtime_context().get_node_id()
        return self._there(config, "decoder", run, room, node, adapters=lora is not None)

    def _there(self, config: Config, part: str, run: str, room: int, node: str, *, adapters: bool) -> SetsThere:
        base = base_of(part, config).fingerprint if adapters else None
        server = serve_weights(run, room, node, self._give_up)
        if server is None:
            return SetsThere(run, room, base)
        self._servers.append(server)
        return SetsThere(run, room, base, server.fetch)

    def _store(self, room: int) -> tuple[Sets, str]:
        """Where the weights of those who train are put, and on which machine."""
        if self.training is not None:
            return RemoteSets(self.training), self.training.meet().node
        return WeightStore.open(self._run, room=room), ray.get_runtime_context().get_node_id()


@contextmanager
def acting_on_cluster(config: Config, done: int, interrupt: Interrupt) -> Iterator[ActingOnCluster]:
    """On the cluster that this process is connected to, with workers whose processes come up; leaving ends them."""
    needs, sizes = needs_of(config), {"sample": config.cluster.samplers, "paint": config.cluster.painters}
    training = RemoteTraining.of(config, trainer_needs(config), done) if config.cluster.trainers else None
    crews: dict[str, Crew] = {
        role: Crew(role, sizes[role], need, config.cluster) for role, need in needs.items() if sizes[role]
    }

    def give_up(why: str) -> None:
        way_on = checkpoint.way_on(Path(str(config.run.folder)))
        interrupt.end(f"error: the run cannot go on: {why}; {way_on}", FAILED)

    acting = ActingOnCluster(crews, done, training, give_up)
    interrupt.closing.append(acting.close)
    try:
        yield acting
    finally:
        acting.close()


def _set_bytes(config: Config, policy: Policy) -> int:
    """Of one set at most."""
    if lora := config.train.lora:
        return adapter_parameters(lora, linear_layers(policy.folder / "ar")) * torch.float32.itemsize
    return sum(tensor.nbytes for tensor in policy.ar.state_dict().values())


def _decoder_bytes(config: Config, policy: Policy) -> int:
    """Of one set of the decoder's at most."""
    trained, decoder = config.trained_decoder, policy.decoder
    if trained is not None and (lora := trained.lora):
        return adapter_parameters(lora, linear_layers(policy.folder / "transformer")) * torch.float32.itemsize
    parts = [decoder.connector, decoder.transformer, *([decoder.reference] if decoder.reference else [])]
    return sum(tensor.nbytes for part in parts for tensor in part.state_dict().values())


def _way_bytes(config: Config, policy: Policy) -> int:
    """Of the way to one picture, where painters send it."""
    if not config.painters_follow:
        return 0
    return states_kept(config) * math.prod(policy.decoder.latent_shape) * torch.float32.itemsize


def _anywhere(config: Config) -> Config:
    """The same where another folder is the current one."""
    path = Path(config.policy.path)
    if not path.exists():  # a name
        return config
    return config.model_copy(update={"policy": config.policy.model_copy(update={"path": str(path.resolve())})})
