"""A step in compiled code, from its call to its return, where nothing is out of the ordinary.

An update of a million elements leaves little of anything else in the processor's caches. Interpreted
code then takes far longer than it does in a loop of its own. Measured (Adam, 1 M in one tensor, two
threads): a step that was Python took 59 µs more than its update, and takes 15 more as it is. With one
element the same Python took 11 µs. PyTorch's own hook around a step is left out where nobody listens.
"""

from inspect import Parameter, Signature

import torch
from torch.optim import optimizer as _optimizer

from fastoptim.torch.views cimport Views

from fastoptim.torch.tensors import count_of_modes, transform_level
from fastoptim.torch.work import BUMP

cdef object profiles = torch.autograd._profiler_enabled
cdef object before_all = _optimizer._global_optimizer_pre_hooks
cdef object after_all = _optimizer._global_optimizer_post_hooks


def step(self, *args, **kwargs):
    """Update every parameter that has a gradient, in place.

    Parameters
    ----------
    closure : callable, optional
        Computes the loss and the gradients anew; called once, before the update.

    Returns
    -------
    What `closure` returned, or None.

    Raises
    ------
    TypeError, ValueError
        A tensor is not where or what an update takes; nothing has changed then.
    RuntimeError
        Parameters that have gradients are nobody's but this optimizer's any more: others have taken
        their place in the model.
    """
    if not args and not kwargs and not (
        self._lent or before_all or after_all or self._optimizer_step_pre_hooks
        or self._optimizer_step_post_hooks or profiles()
    ) and transform_level() is None and not count_of_modes() and made(self):
        return None
    return self._whole_step(*args, **kwargs)


step.hooked = True      # PyTorch puts no hook around it: `_whole_step` has that
# Hooks see the arguments as they were given, so they are not named above.
step.__signature__ = Signature([
    Parameter("self", Parameter.POSITIONAL_OR_KEYWORD),
    Parameter("closure", Parameter.POSITIONAL_OR_KEYWORD, default=None),
])


cdef bint same(object now, object before) except -1:
    """Whether numbers are what they were; a tensor among them has not only one answer."""
    try:
        return now == before
    except RuntimeError:
        return False


cdef bint made(object owner) except -1:
    """Make a step if all is as usual; return False, with nothing changed, if it is not."""
    cdef object work = owner._work, groups, seen, values_of, plan, shown, key
    cdef list places, alone = [], written = None
    cdef Views views
    cdef Py_ssize_t k
    if work is None or owner.sparse == "only":
        return False
    groups, places, seen, values_of = owner.param_groups, work.places, work.seen, work.values_of
    views = work.views
    if (
        views.held is not None or len(groups) != len(places) or work.has_tensors
        or work.alone is None
    ):
        return False
    for k in range(len(groups)):
        if not same(values_of(groups[k]), seen[k]):
            work.follow()
            break
    plan = work.rule.fixed_plan
    if work.is_over or plan is None:
        return False
    try:
        shown = owner._shown
        written = views.look(groups, alone, owner._state, () if shown is None else shown.of)
        if written is None or views.has_rows:
            return False
        for key in alone:
            if key not in work.alone:
                return False
        if written:
            try:
                views.update(work.engine, plan, written, owner.zeroes, BUMP)
            except Exception:       # nothing has changed; the usual way says what is wrong
                return False
        return True
    finally:
        if written is not None:     # it would be company for a parameter that has none
            written.clear()
        views.let_go()
