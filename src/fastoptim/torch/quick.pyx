"""A step in compiled code, from its call to its return, where nothing is out of the ordinary.

An update of a million elements leaves little of anything else in the processor's caches. Interpreted
code then takes far longer than it does in a loop of its own. Measured (1 M in one tensor, two threads):
a step that was Python took 57 µs more than its update, where the same step of one element took 11 µs.
PyTorch's own hook around each step is most of that; it is gone round where nobody listens.
"""

from inspect import Parameter, Signature

import torch
from torch.optim import optimizer as _optimizer

from fastoptim.kernels.update.engine cimport Engine
from fastoptim.torch.views cimport Views

cdef object profiles = torch.autograd._profiler_enabled
cdef object inside_transform = torch._C._functorch.peek_interpreter_stack
cdef object increment_version = torch._C._increment_version
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
    ) and inside_transform() is None and made(self):
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
    cdef object work = owner._work, rule, seen, values_of
    cdef list groups, places, alone = [], written
    cdef Views views
    cdef Py_ssize_t k
    if work is None or owner.zeroes or owner.sparse == "only":
        return False
    groups, places, seen, values_of = owner.param_groups, work.places, work.seen, work.values_of
    if len(groups) != len(places) or work.has_tensors or work.alone is None:
        return False
    for k in range(len(groups)):
        now = values_of(groups[k])
        if not same(now, seen[k]):
            work.follow()
            break
    if work.is_over:
        return False
    rule, views = work.rule, work.views
    plan = rule.fixed_plan
    if plan is None:
        return False
    try:
        written = views.look(groups, alone)
        if written is None or views.has_rows:
            return False
        for key in alone:
            if key not in work.alone:
                return False
        if not written:
            return True
        try:
            applied = (<Engine> work.engine).update(views.params, views.grads, plan)
        except Exception:       # nothing has changed; the usual way says what is wrong
            return False
        if applied:
            increment_version(written)
        return True
    finally:
        views.let_go()
