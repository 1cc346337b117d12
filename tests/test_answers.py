"""What people who come from other libraries try first is answered in this library's terms."""

import inspect
import re
import types
from pathlib import Path

import numpy as np
import pytest
from helpers import EVERY_CLASS, output_of

import fastoptim as fo
from fastoptim import schedules
from fastoptim.porting.answers import ELSEWHERE, PARAMETERS, RULES, SYNONYMS

METHODS = [fo.Heun, fo.RK23, fo.RK45]
every_class = pytest.mark.parametrize("cls", [*EVERY_CLASS, *METHODS])


# ---------------------------------------------------------------- names of hyperparameters

NAMES = [
    # class, what is given: what is answered
    (fo.SGD, "learning_rate", "SGD has no 'learning_rate'; here it is lr"),
    (fo.SGD, "momentum", "SGD has no 'momentum'; fastoptim.Momentum has it as alpha"),
    (fo.SGD, "nesterov", "SGD has no 'nesterov'; see fastoptim.Nesterov"),
    (fo.SGD, "decay", "a rate that falls is a schedule: lr=fastoptim.schedules.inverse"),
    (fo.Momentum, "momentum", "Momentum has no 'momentum'; here it is alpha"),
    (fo.Momentum, "mu", "Momentum has no 'mu'; here it is alpha"),
    (fo.Momentum, "beta", "Momentum has no 'beta'; here it is alpha"),
    (fo.Momentum, "nesterov", "fastoptim.HeavyBall(nesterov=True) for PyTorch's form"),
    (fo.Momentum, "dampening", "fastoptim.HeavyBall has it"),
    (fo.Nesterov, "momentum", "Nesterov has no 'momentum'; here it is mu"),
    (fo.Nesterov, "alpha", "Nesterov has no 'alpha'; here it is mu"),
    (fo.HeavyBall, "momentum", "HeavyBall has no 'momentum'; here it is mu"),
    (fo.HeavyBall, "gamma", "HeavyBall has no 'gamma'; here it is mu"),
    (fo.RMSprop, "alpha", "RMSprop has no 'alpha'; here it is decay_rate"),
    (fo.RMSprop, "rho", "RMSprop has no 'rho'; here it is decay_rate"),
    (fo.RMSprop, "gamma", "RMSprop has no 'gamma'; here it is decay_rate"),
    (fo.RMSprop, "decay", "RMSprop has no 'decay'; here it is decay_rate"),
    (fo.RMSprop, "beta2", "RMSprop has no 'beta2'; here it is decay_rate"),
    (fo.AdaDelta, "decay_rate", "AdaDelta has no 'decay_rate'; here it is rho"),
    (fo.AdaGrad, "decay", "AdaGrad has no 'decay'; here it is lr_decay"),
    (fo.AdaGrad, "initial_accumulator_value", "here it is initial"),
    (fo.Adam, "betas", "Adam has no 'betas'; here they are beta1 and beta2"),
    (fo.Adam, "beta_1", "Adam has no 'beta_1'; here it is beta1"),
    (fo.Adam, "b2", "Adam has no 'b2'; here it is beta2"),
    (fo.Adam, "epsilon", "Adam has no 'epsilon'; here it is eps"),
    (fo.Adam, "correct_bias", "Adam has no 'correct_bias'; here it is bias_correction"),
    (fo.Adam, "lambda_", "Adam has no 'lambda_'; here it is weight_decay"),
    (fo.Adam, "wd", "Adam has no 'wd'; here it is weight_decay"),
    (fo.Adam, "max_norm", "Adam has no 'max_norm'; here it is clip_norm"),
    (fo.Adam, "fused", "Adam has no 'fused'; every update is one compiled pass; leave it out"),
    (fo.Adam, "Learning_Rate", "Adam has no 'Learning_Rate'; here it is lr"),
    (fo.Rprop, "etas", "Rprop has no 'etas'; here they are eta_minus and eta_plus"),
    (fo.Rprop, "step_sizes", "Rprop has no 'step_sizes'; here they are step_min and step_max"),
    (fo.NAdam, "momentum_decay", "NAdam has no 'momentum_decay'; here it is psi"),
    (fo.FTRL, "l1_regularization_strength", "here it is l1"),
    (fo.Adan, "betas", "Adan has no 'betas'; here they are beta1, beta2 and beta3"),
    (fo.SignSGD, "mu", "SignSGD has no 'mu'; here it is momentum"),
    (fo.Muon, "beta", "Muon has no 'beta'; here it is momentum"),
    (fo.Muon, "adjust_lr_fn", "Muon has no 'adjust_lr_fn'; here it is adjust_lr"),
    (fo.LARS, "trust_coefficient", "LARS has no 'trust_coefficient'; here it is trust"),
    (fo.Adafactor, "eps", "Adafactor has no 'eps'; here they are eps1 and eps2"),
    (fo.Adafactor, "clip_threshold", "Adafactor has no 'clip_threshold'; here it is d"),
    (fo.SGD, "clip_factor", "SGD has no 'clip_factor'; here it is agc"),
    (fo.SGD, "use_gc", "SGD has no 'use_gc'; here it is centralize"),
    (fo.LARS, "trust_coeff", "LARS has no 'trust_coeff'; here it is trust"),
    (fo.LAMB, "trust_clip", "LAMB has no 'trust_clip'; trust_ratio=(0, 1) bounds the ratio"),
    (fo.SGD, "kernel_constraint", "SGD has no 'kernel_constraint'; here it is constraint"),
    (fo.Heun, "learning_rate", "Heun has no 'learning_rate'; here it is lr"),
    (fo.RK45, "eta", "RK45 has no 'eta'; here it is lr"),
    (fo.Adam, "params", "Adam is made without parameters; parameters go to update(params, grads)"),
    # nothing of another library's
    (fo.Adam, "weight_dekay", "Adam has no hyperparameter 'weight_dekay'; did you mean"),
    (fo.Adam, "speed", "Adam has no hyperparameter 'speed'; it has lr, beta1, beta2, eps, "),
]


@pytest.mark.parametrize(("cls", "name", "answer"), NAMES, ids=lambda x: getattr(x, "__name__", x))
def test_a_name_of_another_library(cls, name, answer):
    with pytest.raises(TypeError) as problem:
        cls(**{"lr": 0.1, name: 0.5})
    assert answer in str(problem.value)
    opt = cls(lr=0.1)
    with pytest.raises(AttributeError) as problem:
        setattr(opt, name, 0.5)
    assert answer in str(problem.value)
    assert not hasattr(opt, name)


def test_synonyms_lead_to_hyperparameters_that_there_are():
    """A name that a class has is not another one's synonym there, and no row is dead."""
    known = [set(inspect.signature(cls).parameters) for cls in [*EVERY_CLASS, *METHODS]]
    for name, candidates in SYNONYMS.items():
        without_it = [names for names in known if name not in names]
        leads = False
        for candidate in candidates:
            meant = set(candidate.split())
            leads = leads or any(meant <= names for names in without_it)
        assert leads, name
    for name in (*ELSEWHERE, *PARAMETERS):
        assert name == name.lower()


def test_a_group_answers_alike():
    with pytest.raises(TypeError, match=r"Group\('b\*'\) cannot set 'momentum'; here it is alpha"):
        fo.Momentum(groups=[fo.Group("b*", momentum=0.5)])


@every_class
def test_the_signature_is_still_the_hyperparameters(cls):
    names = list(inspect.signature(cls).parameters)
    assert names[0] == "lr"
    assert "args" not in names
    assert list(inspect.signature(cls.step).parameters) == ["self", "params", "fn"]


def test_a_subclass_with_arguments_of_its_own():
    class Mine(fo.Adam):
        def __init__(self, width, **hyperparameters):
            super().__init__(lr=1 / width, **hyperparameters)

        def step(self):
            return "mine"

    class Wide(fo.Adam):
        def __init__(self, width):
            super().__init__(lr=1 / width)

    assert Mine(4, beta1=0.5).lr == Wide(width=4).lr == 0.25
    assert Mine(4).step() == "mine"
    with pytest.raises(TypeError, match="unexpected keyword argument 'epsilon'"):
        Mine(4, epsilon=1.0)
    with pytest.raises(TypeError, match="Wide has no hyperparameter 'depth'; did you mean 'width'"):
        Wide(4, depth=1)


# ---------------------------------------------------------------- parameters, at construction


class Module:
    """As PyTorch's: it can be called, and has parameters."""

    def __call__(self, x):
        return x

    def parameters(self):
        yield np.ones(2)


class Net:
    """As the book's."""

    def __init__(self):
        self.params = {"W": np.ones(2)}


GIVEN = {
    "dict": {"W": np.ones((300, 300))},
    "empty dict": {},
    "list": [np.ones(3)],
    "tuple": (np.ones(3),),
    "array": np.ones(3),
    "generator": Module().parameters(),
    "module": Module(),
    "network": Net(),
    "dict's values": {"W": np.ones(3)}.values(),
    "mapping": types.MappingProxyType({"W": np.ones(3)}),
}


@pytest.mark.parametrize("more", [(), (0.1,)], ids=["", "and lr by position"])
@pytest.mark.parametrize("named", [{}, {"lr": 0.1}], ids=["", "and lr by name"])
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
@every_class
def test_parameters_go_to_update(cls, given, named, more):
    with pytest.raises(TypeError) as problem:
        cls(given, *more, **named)
    text = f"{cls.__name__} is made without parameters; parameters go to "
    assert str(problem.value).startswith(text)
    assert len(str(problem.value)) < 120


def test_what_is_no_parameters():
    assert fo.SGD(np.array(0.5)).lr == 0.5
    rate = schedules.constant(0.1)
    assert fo.SGD(rate).lr is rate
    with pytest.raises(TypeError, match=r"lr must be a number in \[0, inf\), got '0.1' \(str\)"):
        fo.SGD("0.1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"W": np.ones((300, 300))}, "got {'W': array of shape (300, 300)} (dict)"),
        ([np.ones(9)] * 1000, "got [array of shape (9,), "),
        (np.ones(300), "got array of shape (300,) (ndarray)"),
        ("x" * 10_000, "got 'xxx"),
        (b"x" * 10_000, "got b'xxx"),
    ],
    ids=["dict", "list", "array", "text", "bytes"],
)
def test_a_long_value_is_not_printed_whole(value, text):
    for make in (lambda: fo.Adam(lr=value), lambda: setattr(fo.Adam(), "lr", value)):
        with pytest.raises(TypeError) as problem:
            make()
        assert text in str(problem.value)
        assert len(str(problem.value)) < 300
    for name in ("amsgrad", "nonfinite"):
        with pytest.raises((TypeError, ValueError)) as problem:
            fo.Adam(**{name: value})
        assert len(str(problem.value)) < 300


def test_too_many_arguments():
    with pytest.raises(TypeError, match="SGD has lr as positional arguments, got 2; the others"):
        fo.SGD(0.1, 0.9)
    with pytest.raises(TypeError, match="Momentum has lr, alpha as positional arguments, got 3;"):
        fo.Momentum(0.1, 0.9, 0)
    with pytest.raises(TypeError, match="SGD was given lr twice, by position and by name"):
        fo.SGD(0.1, lr=0.1)


# ---------------------------------------------------------------- methods


@every_class
def test_step_without_a_function(cls):
    opt, params = cls(lr=0.1), {"x": np.ones((2, 2))}
    for given in ((), (lambda: 1.0,)):
        with pytest.raises(TypeError) as problem:
            opt.step(*given)
        message = str(problem.value)
        assert "opt.step(params, fn), where fn(params) returns grads or (loss, grads)" in message
        assert ("opt.update(params, grads)" in message) == hasattr(opt, "update")
    with pytest.raises(TypeError, match=r"step needs the parameters and a function"):
        opt.step(params=params)
    opt.step(params, fn=lambda params: {"x": params["x"].copy()})
    assert opt.iter == 1


@every_class
def test_zero_grad(cls):
    opt = cls(lr=0.1)
    assert not hasattr(opt, "zero_grad")
    with pytest.raises(AttributeError) as problem:
        opt.zero_grad()
    message = str(problem.value)
    assert f"{cls.__name__} has no 'zero_grad': gradients are made anew at each step" in message
    assert ("zero_grads=True zeroes them" in message) == hasattr(opt, "update")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("param_groups", "hyperparameters are attributes, as in opt.lr = 0.1"),
        ("apply_gradients", r"use opt.update\(params, grads\)"),
        ("minimize", r"use opt.step\(params, fn\)"),
        ("iterations", "the number of completed updates is opt.iter"),
        ("learning_rate", "Adam has no 'learning_rate'; here it is lr"),
        ("anything", "'Adam' object has no attribute 'anything'"),
        ("_private", "'Adam' object has no attribute '_private'"),
        ("__len__", "'Adam' object has no attribute '__len__'"),
    ],
)
def test_attributes_of_others(name, text):
    opt = fo.Adam()
    assert not hasattr(opt, name)
    with pytest.raises(AttributeError, match=text):
        getattr(opt, name)


@pytest.mark.parametrize("name", ["param_groups", "learning_rate", "anything", "_private"])
def test_the_class_does_not_have_them_either(name):
    assert not hasattr(fo.Adam, name)


@pytest.mark.parametrize("cls", [fo.ScheduleFreeSGD, fo.ScheduleFreeAdamW])
def test_schedule_free_rules_as_their_authors_use_them(cls):
    opt = cls()
    for name, text in (("eval", "hold the point to evaluate at"), ("train", "leave `with opt")):
        with pytest.raises(AttributeError, match=rf"has no '{name}': .*{text}"):
            getattr(opt, name)()
        assert name not in dir(opt)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Signum", r"no attribute 'Signum'; it is fastoptim.SignSGD\(momentum=0.9\)$"),
        ("NovoGrad", "to be copied from docs/bodies.md$"),
        ("AdamWScheduleFree", "it is fastoptim.ScheduleFreeAdamW$"),
        ("Lamb", r"did you mean 'LAMB'\?$"),
        ("Adagrad", r"did you mean 'AdaGrad'\?$"),
        ("max_norm", r"did you mean 'MaxNorm'\?$"),
        ("Shampoo", "module 'fastoptim' has no attribute 'Shampoo'$"),
        ("_adam", "module 'fastoptim' has no attribute '_adam'$"),
    ],
)
def test_names_that_the_library_does_not_have(name, text):
    assert not hasattr(fo, name)
    with pytest.raises(AttributeError, match=text):
        getattr(fo, name)


def test_bodies_to_copy_have_no_other_name_here():
    """What is said to be on the page of bodies is there."""
    page = Path(__file__).parents[1] / "docs" / "bodies.md"
    names = {name.lower() for name in re.findall(r"^## (\w+)$", page.read_text("utf-8"), re.M)}
    assert names == {name for name, text in RULES.items() if "docs/bodies.md" in text}
    assert not names & {name.lower() for name in fo.__all__}


def test_attributes_are_read_as_fast_as_of_any_object():
    """CPython reads them quickly only where no class has a __getattr__ or __getattribute__."""
    for cls in [*EVERY_CLASS, *METHODS]:
        assert not any("__getattr__" in vars(base) for base in cls.__mro__)
        assert cls.__getattribute__ is object.__getattribute__


# ---------------------------------------------------------------- coefficients


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_coefficients_are_made_of_numbers(cls):
    opt = cls(lr=schedules.constant(0.1))
    if cls is not fo.Rprop:                         # whose lr is what fresh state starts at
        text = f"lr of this {cls.__name__} is a schedule; set each to a number first"
        with pytest.raises(TypeError, match=text):
            opt.coefficients(1)
    opt.lr = opt.lr(0)
    assert opt.coefficients(1) == cls(lr=0.1).coefficients(1)
    if not (cls.decays or cls.norms):                   # those have it in their coefficients
        opt.weight_decay = schedules.constant(0.1)
        assert opt.coefficients(1) == cls(lr=0.1).coefficients(1)


def test_schedules_of_several():
    opt = fo.Momentum(lr=schedules.constant(0.1), alpha=lambda step: 0.5)
    with pytest.raises(TypeError, match=r"and lr and alpha of this Momentum are schedules; set"):
        opt.coefficients(1)
    opt = fo.RMSprop(momentum=lambda step: 0.5)
    with pytest.raises(TypeError, match=r"and momentum of this RMSprop is a schedule; set"):
        opt.coefficients(1)


@pytest.mark.parametrize("cls", EVERY_CLASS)
@pytest.mark.parametrize("t", [0, -1, np.int64(0), False])
def test_updates_are_counted_from_1(cls, t):
    with pytest.raises(ValueError, match=rf"t counts the updates of a parameter from 1, got {t}"):
        cls(lr=0.1).coefficients(t)


@pytest.mark.parametrize("t", [1.0, "1", None, np.ones(2)])
def test_updates_are_whole(t):
    with pytest.raises(TypeError, match="t must be a whole number, got"):
        fo.Adam().coefficients(t)
    assert fo.Adam().coefficients(np.int32(3)) == fo.Adam().coefficients(t=3)


def test_a_type_error_in_the_coefficients_of_a_users_subclass_is_its_own():
    class Wrong(fo.Adam):
        def coefficients(self, t):
            return 1 + "1"

    with pytest.raises(TypeError, match="unsupported operand"):
        Wrong().coefficients(1)


def test_a_rule_of_the_users_own_answers_alike():
    @fo.rule(state=("v",), lr=0.1, alpha=0.9)
    def Own(p, g, v, lr, alpha):
        v = alpha * v - lr * g
        return p + v, v

    with pytest.raises(TypeError, match="Own has no 'momentum'; here it is alpha"):
        Own(momentum=0.5)
    with pytest.raises(TypeError, match="Own is made without parameters; parameters go to update"):
        Own({"W": np.ones(3)}, lr=0.1)
    with pytest.raises(TypeError, match="and lr of this Own is a schedule; set each"):
        Own(lr=schedules.constant(0.1)).coefficients(1)
    with pytest.raises(ValueError, match="t counts the updates of a parameter from 1, got 0"):
        Own().coefficients(0)


# ---------------------------------------------------------------- tensors


def of(module, name="Tensor"):
    """An object whose class says that it is another library's, without that library."""
    return type(name, (), {"__module__": module})()


TENSORS = [
    # the object, what is said of it, what else is said
    (of("torch"), "got Tensor; tensor.detach().numpy() is an array of the same memory", ""),
    (of("torch.nn.parameter", "Parameter"), "got Parameter; tensor.detach().numpy() is an arr", ""),
    (of("jaxlib.xla_extension", "ArrayImpl"), "got ArrayImpl; ", "a JAX array is read-only"),
    (of("jax._src.array", "ArrayImpl"), "got ArrayImpl; keep parameters as NumPy arrays", ""),
    (
        of("tensorflow.python.framework.ops", "EagerTensor"), "got EagerTensor; ",
        ".numpy() of a TensorFlow tensor is a",
    ),
    (of("cupy", "ndarray"), "got ndarray of CuPy, which is on a GPU; ", "x.get() is a copy"),
    (of("cupy._core.core", "ndarray"), "got ndarray of CuPy, ", "x.get() is a copy"),
    (of("torch"), "got Tensor; ", "fastoptim.torch has optimizers that take tensors as they are"),
    (type("Mine", (type(of("torch")),), {})(), "got Mine; tensor.detach().numpy() is", ""),
    (of("keras.src.backend", "Variable"), "got Variable; ", "variable.assign(array) after"),
    (
        of("tensorflow.python.framework.indexed_slices", "IndexedSlices"), "got IndexedSlices; ",
        "fastoptim.Rows(g.indices.numpy(), g.values.numpy()) is its gradient",
    ),
    (
        of("tensorflow.python.framework.ops", "SymbolicTensor"), "got SymbolicTensor, which ",
        "stands for a value inside a tf.function; call update outside of it",
    ),
    (
        of("jax._src.interpreters.partial_eval", "DynamicJaxprTracer"),
        "got DynamicJaxprTracer, which ", "inside a function that JAX traces; call update outside",
    ),
    (
        of("autograd.numpy.numpy_boxes", "ArrayBox"), "got ArrayBox, which ",
        "with what autograd.grad(…)(params) returns",
    ),
    (
        type("Tensor", (), {"__module__": "tinygrad.tensor", "__dlpack__": None})(),
        "got Tensor; np.from_dlpack(x) is an array of its memory", "",
    ),
    (
        type("Tensor", (), {"__module__": "torch", "is_sparse": True})(), "got Tensor; with g = ",
        "fastoptim.Rows(g.indices()[0].numpy(), g.values().numpy()) is its gradient",
    ),
]
every_side = pytest.mark.parametrize("side", ["params", "grads"])


def message_of_an_update_with(x, side):
    """What the error says if x is given for the array W in params or in grads."""
    given = {"params": {"W": np.ones(2)}, "grads": {"W": np.ones(2)}}
    given[side] = {"W": x}
    with pytest.raises(TypeError) as problem:
        fo.SGD().update(given["params"], given["grads"])
    return str(problem.value)


@every_side
@pytest.mark.parametrize(("x", "text", "more"), TENSORS, ids=lambda x: type(x).__module__)
def test_a_tensor_is_told_how_it_becomes_an_array(x, text, more, side):
    message = message_of_an_update_with(x, side)
    assert f"{side}['W'] must be a NumPy array of float32 or float64, {text}" in message
    assert more in message
    assert message.endswith(" (docs/bridges.md)")


@every_side
@pytest.mark.parametrize("x", [of("torchlike"), object()], ids=["torchlike", "object"])
def test_of_what_is_no_tensor_nothing_more_is_said(x, side):
    message = message_of_an_update_with(x, side)
    assert message.endswith(
        f"{side}['W'] must be a NumPy array of float32 or float64, got {type(x).__name__}"
    )


def parameters_of_torch():
    """A generator, as net.parameters() is: written in a module of torch."""
    names = {"__name__": "torch.nn.modules.module"}
    exec("def parameters():\n    yield None", names)
    return names["parameters"]()


MODELS = [
    # what is given as params: what is said of it
    (of("torch"), "got Tensor; fastoptim.torch has optimizers that are made with a model's param"),
    (type("Net", (type(of("torch.nn", "Module")),), {})(), "got Net; fastoptim.torch has"),
    (parameters_of_torch(), "got generator; fastoptim.torch has"),
    (
        type("MLPClassifier", (), {"__module__": "sklearn.neural_network", "coefs_": []})(),
        "got MLPClassifier; its arrays are params = [*mlp.coefs_, *mlp.intercepts_] (docs/bridges",
    ),
    (of("jaxlib", "ArrayImpl"), "got ArrayImpl; how its arrays become NumPy's is said in docs/br"),
    (of("keras.src.models", "Sequential"), "got Sequential; how its arrays become NumPy's is sai"),
    (of("thinc.model", "Model"), "got Model; how its arrays become NumPy's is said in docs/bridg"),
]


@pytest.mark.parametrize(("x", "text"), MODELS, ids=lambda x: type(x).__module__)
def test_a_model_is_told_what_has_its_arrays(x, text):
    with pytest.raises(TypeError) as problem:
        fo.SGD().update(x, {})
    assert f"params must be a dict or a list of NumPy arrays, {text}" in str(problem.value)


@pytest.mark.parametrize(
    "given",
    [parameters_of_torch(), [of("torch.nn.parameter", "Parameter")], {"W": of("torch")}],
    ids=["generator", "list", "dict"],
)
def test_an_optimizer_of_torchs_parameters_is_elsewhere(given):
    text = r"parameters go to update\(params, grads\), each time; for those of PyTorch see fastopt"
    for make in (lambda: fo.Adam(given, lr=0.1), lambda: fo.Adam(params=given)):
        with pytest.raises(TypeError, match=text):
            make()
    left = given if isinstance(given, (list, dict)) else list(given)
    assert len(left) == 1                               # nothing was taken of the generator


def test_what_is_said_of_torchs_sparse_gradients_is_so():
    torch = pytest.importorskip("torch")
    table = torch.ones(5, 2, requires_grad=True)
    torch.nn.functional.embedding(torch.tensor([3, 1, 3]), table, sparse=True).sum().backward()
    params = {"W": table.detach().numpy()}
    with pytest.raises(TypeError, match="with g = g.coalesce"):
        fo.SGD().update(params, {"W": table.grad})
    g = table.grad.coalesce()
    fo.SGD(lr=1.0).update(params, {"W": fo.Rows(g.indices()[0].numpy(), g.values().numpy())})
    assert table[:, 0].tolist() == [1.0, 0.0, 1.0, -1.0, 1.0]


def test_what_is_said_of_torchs_models_is_so():
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 1)
    for given in (net.parameters(), net, list(net.parameters())):
        with pytest.raises(TypeError, match="for those of PyTorch see fastoptim.torch"):
            fo.Adam(given, lr=0.1)
        if not isinstance(given, list):
            with pytest.raises(TypeError, match="fastoptim.torch has optimizers that are made wi"):
                fo.Adam().update(given, [])


def test_nothing_is_imported_for_the_answer():
    code = (
        "import sys, numpy as np, fastoptim as fo\n"
        "try: fo.SGD().update({'W': type('Tensor', (), {'__module__': 'torch'})()},"
        " {'W': np.ones(1)})\n"
        "except TypeError: print({'torch', 'jax', 'tensorflow'} & set(sys.modules))\n"
    )
    assert output_of(code) == "set()"


def test_what_is_said_of_torch_is_so():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"tensor.detach\(\).numpy\(\)"):
        fo.SGD().update({"W": tensor}, {"W": np.ones(2, "f4")})
    fo.SGD(lr=1.0).update({"W": tensor.detach().numpy()}, {"W": np.ones(2, "f4")})
    assert tensor.tolist() == [0.0, 0.0]


def test_what_is_said_of_jax_is_so():
    jnp = pytest.importorskip("jax.numpy")
    x = jnp.ones(2, "float32")
    with pytest.raises(TypeError, match="np.asarray of a JAX array is read-only"):
        fo.SGD().update({"W": np.ones(2, "f4")}, {"W": x})
    assert not np.asarray(x).flags.writeable
    params = {"W": np.array(x)}
    fo.SGD(lr=1.0).update(params, {"W": np.asarray(x)})
    assert params["W"].tolist() == [0.0, 0.0]


def test_what_is_said_of_tensorflow_is_so():
    tf = pytest.importorskip("tensorflow")
    for x in (tf.ones(2), tf.Variable(tf.ones(2))):
        with pytest.raises(TypeError, match=r".numpy\(\) of a TensorFlow tensor is a copy"):
            fo.SGD().update({"W": x}, {"W": np.ones(2, "f4")})


@pytest.mark.parametrize("given", [{"x": np.ones(9)}, None, 5], ids=repr)
@pytest.mark.parametrize("make", [fo.SGD, fo.Momentum, fo.Heun, fo.RK45])
def test_what_is_no_function(make, given):
    params = {"x": np.ones(9)}
    with pytest.raises(TypeError, match="fn must be a function of params that returns") as raised:
        make().step(params, given)
    assert ("opt.update(params, grads)" in str(raised.value)) == hasattr(make, "update")
    assert (params["x"] == 1).all()
