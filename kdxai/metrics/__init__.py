"""Numbers for explanations: arrays of one image in, one float32 scalar out; `vmap` is the caller's.

The functions know neither models nor explanation methods, so they serve both and any other. Where a
module has several functions of the same arguments, its `METRICS` holds them by name. Four
conventions hold throughout:

- One map, one image, one mask: a batch is refused, `jax.vmap` hides its axis. Every dtype is taken
  for the numbers it holds, and of a mask any value but 0 is inside.
- A map that is zero everywhere is the limit of a constant map and scores what a constant map
  scores: it prefers no pixel. No metric returns NaN for it; callers that must count such maps look
  at the map, not at the score.
- Pixels of equal relevance are a tie. Every docstring says how its metric treats one, and none
  depends on the sorting algorithm.
- Edge cases have values; NaN comes only of NaN. An input that is not finite gives a result that is
  not, and `finite.require_finite` refuses it by name on the host, where one can raise.
"""
