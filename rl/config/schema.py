"""The schema of a run, strict and frozen; what one field alone can't tell is checked in :mod:`rl.config.rules`."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rl.config.section import Component, Optimisation, Section
from rl.config.sections.cluster import ClusterConfig, LoopConfig
from rl.config.sections.data import DataConfig
from rl.config.sections.decoder import DecoderConfig
from rl.config.sections.groups import GroupsConfig
from rl.config.sections.guards import GuardsConfig
from rl.config.sections.lora import LoraSettings
from rl.config.sections.milestones import CheckpointConfig, EvalConfig
from rl.config.sections.modalities import ModalityWeights
from rl.config.sections.schedule import ScheduleConfig
from rl.config.sections.supervised import SupervisedConfig
from rl.config.sections.sync import SyncConfig
from rl.config.sections.trackers import Trackers, switched
from rl.config.values import (
    AS_TUPLE,
    WHOLE,
    AtLeastOne,
    Bool,
    Count,
    Dtype,
    Fraction,
    MicroBatch,
    Names,
    NotNegative,
    Number,
    Options,
    Part,
    PathText,
    Positive,
    Range,
    Role,
    Seed,
    Steps,
    Trainers,
    UpToThree,
)
from rl.types import Prompt


class RewardComponent(Component):
    """A reward: a component with its place in the total."""

    weight: Number = 1.0
    """Factor in the sum of the training rewards; negative makes a penalty."""
    role: Role = "train"
    """``monitor``: scored and logged, never trained on."""
    part: Literal["ar", "decoder", "both"] = "both"
    """Which part learns from it: the language model (``ar``), the ``decoder``, or ``both``, each if it is trained."""
    scale: Range | None = None
    """``[low, high]``: values are mapped by (value - low) / (high - low) before they are combined."""
    tags: Names | None = None
    """Score only prompts whose metadata ``tag`` is one of these; not applicable to the others."""
    metadata: Names = ()
    """Score only prompts that have all these metadata keys, for example ``[text]``."""
    probe: Bool = True
    """Stop before the first step if the reward gets its own reference pictures wrong."""
    workers: AtLeastOne | None = None
    """Worker processes; ``null``: what the reward declares."""
    batch_size: AtLeastOne | None = None
    """Most samples in one call; ``null``: what the reward declares."""
    cpus: AtLeastOne | None = None
    """Threads of each worker's numerical libraries; ``null``: what the reward declares, or a fair share."""
    gpus: NotNegative | None = None
    """Share of a GPU per worker (0: sees none, 0.5: two share one); ``null``: what the reward declares, or 0."""
    python: PathText | None = None
    """Interpreter of the reward's own virtual environment; ``null``: what it declares, or that of the run."""

    def teaches(self, part: Part) -> bool:
        """Whether that part, if it is trained, learns from it."""
        return self.role == "train" and self.part in (part, "both")

    def applies(self, prompt: Prompt) -> bool:
        """Whether the prompt's tag is among ``tags`` (if given) and it has all keys of ``metadata``."""
        tagged = self.tags is None or prompt.metadata.get("tag") in self.tags
        return tagged and all(prompt.metadata.get(key) is not None for key in self.metadata)


class PolicyConfig(Section):
    """The image model that is trained."""

    path: PathText = "shapes"
    """A policy folder, a finished run's folder, ``owner/name[@revision]`` on a hub, or ``shapes``, the embedded one."""
    dtype: Dtype = "float32"
    """Precision of the weights in the sampler and, where ``render.dtype`` says nothing else, in the decoder."""
    reads: Literal["codes", "features"] | None = None
    """How pictures in questions are read, if not as the policy's own ``policy.json`` says."""
    compile: Bool = False
    """Compile the layers of language model and decoder (torch.compile; needs a C++ compiler or a GPU): a minute or two
    before the first step, less when started again; then a step of the embedded model takes an eighth less, so it pays
    after some 700 steps. The first ratio stays 1 and a resume is bit-equal; numbers differ in their last digits
    from those of a run without it. Takes no part in sampling by vLLM."""


class RolloutConfig(Section):
    """Sampling of image tokens."""

    engine: str = "auto"
    """``vllm``, ``torch``, or ``auto``: vLLM where there is a GPU and it is installed, torch on a CPU, which is faster
    there."""
    group_size: AtLeastOne = 8
    """Samples per prompt."""
    temperature: Positive = 1.0
    """Divides the logits before sampling; the trainer's log-probs use the same."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; must be 1 (off) while training."""
    top_k: Count = 0
    """Sample among the k likeliest tokens; must be 0 (off) while training."""
    answer_tokens: AtLeastOne = 16
    """Longest answer to a question, its end included; never more than a picture has."""
    hidden_states: Literal["sampler", "trainer"] = "sampler"
    """Whose final hidden states are painted: the sampler's own where the engine has them (``torch``), which saves a
    forward, or the trainer's; in one precision they differ by float noise."""
    sleep: Annotated[int, Field(ge=0, le=2), WHOLE] = 0
    """What the engine lends of the GPU's memory while others work: 1, its weights wait in the machine's memory and its
    cache is dropped; 2, weights are dropped too during a step, for the update brings new ones."""
    options: Options = Field(default_factory=dict)
    """Keyword arguments of the engine."""


class RenderConfig(Section):
    """From tokens to pixels: the diffusion decoder."""

    steps: AtLeastOne = 4
    """Steps of the sampler."""
    sampler: Component = Component(use="euler")
    """The way from noise to latents: ``euler`` (the flow's ODE), ``sde`` or ``cps`` (fresh noise in early steps, for
    training pictures: what is evaluated is painted by ``euler`` all the same)."""
    guidance: NotNegative = 1.0
    """Classifier-free guidance scale; 1 is off."""
    seed: Literal["group", "sample"] = "group"
    """Who shares decoder noise: a whole group (noise cancels in the advantage) or nobody."""
    renders: AtLeastOne = 1
    """Pictures painted per token sequence; their rewards are averaged."""
    dtype: Dtype | None = None
    """Precision of the decoder; ``null``: that of ``policy.dtype``."""
    micro_batch: MicroBatch = 64
    """Pictures painted at one time, while the rewards score the ones before; changes memory, not results. ``auto``: the
    most that fit into the free memory by the estimate of ``--dry-run``."""
    offload: Bool = False
    """The decoder is on the GPU only while it paints."""


class RewardPoolConfig(Section):
    """The worker processes that score, and what happens when one fails."""

    timeout_s: Positive = 60.0
    """Seconds until a call counts as hung and its process is killed."""
    start_timeout_s: Positive = 300.0
    """Seconds a worker may take to load its reward."""
    retries: UpToThree = 1
    """Further attempts after a dead worker or a transport error."""
    max_failed_fraction: Fraction = 0.05
    """Stop the run when more of a step's scores than this failed."""
    recycle_after: AtLeastOne = 20000
    """Pictures after which a worker is replaced (OCR engines leak memory)."""
    recycle_growth_mb: AtLeastOne = 2048
    """Megabytes of growth since its first answer at which a worker is replaced."""
    backend: Literal["local", "ray"] = "local"
    """Workers are processes of this machine, or Ray actors wherever the cluster has room."""
    cache: PathText | None = None
    """Folder of scores by content (picture, prompt, reward, options, code); ``null`` scores everything anew."""
    cache_mb: AtLeastOne = 1024
    """Megabytes at which the scores that were not used for longest leave the cache."""


class TrainConfig(Optimisation):
    """The optimiser of the language model, how a step is cut into pieces, and how long the run is."""

    section: ClassVar[str] = "train"
    """Where it stands."""

    steps: Steps = 100
    """Steps of sample, score, update; 0 only evaluates."""
    ranks: AtLeastOne = 1
    """Processes that share each batch, a GPU each where there are any; ``torchrun`` says its own number."""
    logprob_chunk: AtLeastOne = 1024
    """Token positions whose logits exist at one time."""
    lora: LoraSettings | None = None
    """Train adapters of low rank instead of the weights; the reference policy is then the same model without them."""


class TrackingConfig(Section):
    """What is shown and written."""

    console: Literal["auto", "rich", "plain", "off"] = "auto"
    """``auto``: live view on a terminal that can draw it, plain lines elsewhere."""
    to: Trackers = ("tensorboard",)
    """Trackers beside metrics.jsonl; in short, ``wandb: true`` adds one and ``tensorboard: false`` leaves one out."""
    project: Annotated[str, Field(min_length=1)] = "easel-rl"
    """Project (MLflow: experiment) of the run."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """Name of the run; ``null``: the run folder's."""
    group: Annotated[str, Field(min_length=1)] | None = None
    """Group of runs that belong together, such as the seeds of a sweep."""
    tags: Names = ()
    """Words to find the run by."""
    pictures_every: Count = 10
    """Steps between saved training pictures; 0 for never."""
    pictures: Count = 8
    """How many are saved."""
    groups: Count = 2
    """Groups of a step that are saved with all their samples at the same time, for the report."""
    profile: Annotated[tuple[AtLeastOne, ...], AS_TUPLE] = ()
    """Steps, counted from 1, whose time is traced by torch's profiler into ``RUN/profile/``."""

    @model_validator(mode="before")
    @classmethod
    def _switched(cls, given: object) -> object:
        return switched(given, cls.model_fields["to"].default)


class RunConfig(Section):
    """This run."""

    folder: PathText | None = None
    """Where everything is written; default ``runs/<name of the YAML file>``."""
    seed: Seed = 0
    """The seed that every other one is derived from."""


class Config(Section):
    """A whole run."""

    policy: PolicyConfig = PolicyConfig()
    """The model."""
    data: DataConfig = DataConfig()
    """The prompts."""
    rollout: RolloutConfig = RolloutConfig()
    """Sampling."""
    groups: GroupsConfig = GroupsConfig()
    """Groups without signal, and group sizes."""
    render: RenderConfig = RenderConfig()
    """Painting."""
    rewards: dict[str, RewardComponent] = Field(default_factory=dict)
    """Name -> reward; ``null`` removes an inherited one."""
    reward_pool: RewardPoolConfig = RewardPoolConfig()
    """Scoring processes."""
    combine: Component = Component(use="mean")
    """How several rewards become one: ``mean``, ``sum``, ``product`` (a gate), ``gdpo``."""
    advantage: Component = Component(use="grpo")
    """``grpo`` (divided by the group's std), ``dr_grpo`` (not divided), ``rloo``, ``max_rl`` (divided by the mean),
    ``batch_norm`` (for ``gdpo``)."""
    loss: Component = Component(use="grpo")
    """``grpo`` (clip .2/.2), ``dapo`` (.2/.28), ``gspo`` (whole samples), ``cispo``, ``sapo``, ``reinforce``."""
    aggregation: Component = Component(use="token_mean")
    """How token losses become one number: ``token_mean``, ``sequence_mean``, ``constant``."""
    kl: Component | None = Component(use="k3", options={"beta": 0.001})
    """Pull to the reference policy (``k1``, ``k2``, ``k3``); ``null`` also saves the reference's memory."""
    kl_reference: Component = Component(use="fixed")
    """What ``kl`` compares with: the policy at the start (``fixed``), or one that becomes the policy of now from time
    to time (``refreshed``) or follows it slowly (``ema``); ``guards.max_kl`` watches the distance to that one."""
    entropy: Component | None = None
    """Pull to more entropy (``bonus``), or to a certain one (``target``); ``null`` for none."""
    anchor: Component | None = None
    """Pull on the decoder's condition, so that a frozen decoder can follow (``condition``); ``null`` for none."""
    terms: dict[str, Component] = Field(default_factory=dict)
    """Name -> a further term of the loss, ``module:attr``; ``null`` removes an inherited one."""
    correction: Component | None = Component(use="token_tis", options={"cap": 2.0})
    """Importance correction between sampler and trainer, truncated (``token_tis``, ``sequence_tis``) or masked
    (``token_mis``, ``sequence_mis``); ``null`` for none."""
    modality_weights: ModalityWeights = ModalityWeights()
    """Of pictures and answers in one update (``data.shares``)."""
    trainers: Trainers = ("ar",)
    """Which networks learn: ``ar`` (the language model), ``decoder`` (what paints), or both, each with its own
    optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Which of two networks learns in which step."""
    train: TrainConfig = TrainConfig()
    """Optimisation of the language model; ``steps`` and ``ranks`` are those of the run."""
    loop: LoopConfig = LoopConfig()
    """When steps are collected: in turn with the updates, or ahead of them."""
    cluster: ClusterConfig = ClusterConfig()
    """Who collects them, with ``loop: ahead``, and who learns."""
    decoder: DecoderConfig | None = None
    """Training of the decoder; needs ``decoder`` among ``trainers``, which has the defaults where this is ``null``."""
    supervised: SupervisedConfig | None = None
    """Learn from examples and not from rewards, which then only measure; ``null``: reinforcement learning."""
    eval: EvalConfig = EvalConfig()
    """Evaluation."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving."""
    sync: SyncConfig = SyncConfig()
    """Weights into the engine."""
    guards: GuardsConfig = GuardsConfig()
    """Alarms."""
    tracking: TrackingConfig = TrackingConfig()
    """Output."""
    run: RunConfig = RunConfig()
    """Folder and seed."""

    @property
    def trained_decoder(self) -> DecoderConfig | None:
        """How the decoder is trained, if it is."""
        return (self.decoder or DecoderConfig()) if "decoder" in self.trainers else None

    @property
    def learning(self) -> list[Optimisation]:
        """Of each network that learns, in the order in which they do."""
        if self.supervised is not None:
            return [self.train]
        ar: list[Optimisation] = [self.train] if "ar" in self.trainers else []
        return ar + [one for one in (self.trained_decoder,) if one is not None]

    @property
    def paints_with_base(self) -> bool:
        """Whether evaluations also paint with the decoder as it was at the start: to tell two networks apart, or
        because nobody has evaluated the base."""
        looks = "decoder" in self.trainers and self.data.eval is not None and self.eval.parts > 0
        return looks and ("ar" in self.trainers or not self.eval.at_start)

    @property
    def logs_experience(self) -> bool:
        """Whether what the steps learn from is kept."""
        asked = self.checkpoint.experience
        needed = self.loop.ahead and (self.loop.staleness > 0 or self.cluster.trainers > 0)
        return needed if asked == "auto" else asked

    @property
    def painters_follow(self) -> bool:
        """Whether painters of a cluster take the weights of a decoder that learns."""
        return self.loop.ahead and self.cluster.painters > 0 and self.trained_decoder is not None

    def steps_of(self, one: Optimisation, steps: int) -> int:
        """In how many of the run's first ``steps`` that network learns."""
        return self.schedule.steps_of("ar" if one.section == "train" else one.section, steps)

    @property
    def decoder_dtype(self) -> str:
        """The precision that the decoder paints in: where it learns, the one it is trained in."""
        trained = self.train if self.supervised else self.trained_decoder
        return self.render.dtype or (trained.dtype if trained else self.policy.dtype)


ABSENT_SECTIONS: dict[tuple[str, ...], type[Section]] = {("decoder",): DecoderConfig, ("supervised",): SupervisedConfig}
"""Sections with components in them that are ``null`` until one of their keys is given."""

SHORT_SECTIONS: dict[tuple[str], str] = {("schedule",): "order", ("groups",): "flat", ("loop",): "use"}
"""Sections that may be written as one word, and the key that it stands for."""

COMPONENT_KINDS: dict[tuple[str, ...], str] = {
    ("data", "train"): "prompts",
    ("data", "eval"): "prompts",
    ("data", "curriculum"): "curricula",
    ("groups", "sizes"): "group_sizes",
    ("render", "sampler"): "decoder_samplers",
    ("rewards", "*"): "rewards",
    ("combine",): "combinations",
    ("advantage",): "advantages",
    ("loss",): "losses",
    ("aggregation",): "aggregations",
    ("kl",): "kls",
    ("kl_reference",): "kl_references",
    ("entropy",): "entropies",
    ("anchor",): "anchors",
    ("terms", "*"): "terms",
    ("correction",): "corrections",
    ("decoder", "loss"): "decoder_losses",
    ("supervised", "examples"): "examples",
}
"""Where components sit in the YAML, and the registry kind of each; ``*`` stands for any name."""


def component_kind(path: tuple[str, ...]) -> str | None:
    """``("rewards", "ocr") -> "rewards"``; None if no component sits there."""
    return COMPONENT_KINDS.get(path) or (COMPONENT_KINDS.get((path[0], "*")) if len(path) == 2 else None)


def holds_components(path: tuple[str, ...]) -> bool:
    """Whether a mapping of name -> component sits there, as under ``("rewards",)``."""
    return (*path, "*") in COMPONENT_KINDS


def components(config: Config) -> Iterator[tuple[tuple[str, ...], str, Component]]:
    """(path, registry kind, component) of every component of a run."""
    for path, kind in COMPONENT_KINDS.items():
        if path[-1] == "*":
            for name, component in getattr(config, path[0]).items():
                yield (path[0], name), kind, component
            continue
        holder = attrgetter(".".join(path[:-1]))(config) if path[1:] else config
        if holder is not None and (chosen := getattr(holder, path[-1])) is not None:
            yield path, kind, chosen
