"""Rewards: pictures and their prompts in, scores out, each reward isolated in its own worker process.

``base`` turns whatever a plug-in answers into ``rl.types.Score``; ``pool`` runs the plug-ins in worker
processes that may hang or crash without harm; ``combine`` makes the training reward out of several scores.
A failed score is masked and counted, never 0. ``README.md`` beside this file has the library and the commands.
"""

import rl as _rl  # noqa: F401 - checks the environment, and that all four packages are ours
