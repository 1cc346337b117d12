/* Logistic regression on a stream in plain C: one step of any rule of fastoptim per sample.

   logistic.learn(rule, w, state, coefficients, x, y), all arrays contiguous float64: n weights w; a row of n
   per slot of the rule; a row of the rule's scalars per sample; a row of n features per sample; the
   samples' labels y, 0 or 1. w and state are updated in place, without the GIL. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <string.h>

#include "fastoptim.h"

/* Get an array's float64, as many as expected, or set an exception. */
static int get(PyObject *array, Py_buffer *view, int flags, const char *name, Py_ssize_t expected)
{
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0)
        return -1;
    if (strcmp(view->format, "d") == 0 && view->len == expected * (Py_ssize_t) sizeof(double))
        return 0;
    PyErr_Format(PyExc_ValueError, "%s must be %zd float64, got %zd of format '%s'", name, expected,
                 view->len / view->itemsize, view->format);
    PyBuffer_Release(view);
    return -1;
}

static void run(const fastoptim_rule *rule, double *w, double **s, const double *c,
                const double *x, const double *y, double *g, Py_ssize_t n, Py_ssize_t samples)
{
    for (Py_ssize_t t = 0; t < samples; t++, x += n, c += rule->coefs) {
        double z = 0;
        for (Py_ssize_t i = 0; i < n; i++)
            z += w[i] * x[i];
        double error = 1 / (1 + exp(-z)) - y[t];
        for (Py_ssize_t i = 0; i < n; i++)
            g[i] = error * x[i];
        rule->f64(w, g, s, c, n);
    }
}

static PyObject *learn(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *rule_name, *names[5] = {"w", "state", "coefficients", "x", "y"};
    PyObject *a[5], *result = NULL;
    Py_buffer view[5];
    double *g = NULL, *s[FASTOPTIM_MAX_SLOTS];
    int got = 0;

    if (!PyArg_ParseTuple(args, "sOOOOO", &rule_name, &a[0], &a[1], &a[2], &a[3], &a[4]))
        return NULL;
    const fastoptim_rule *rule = fastoptim_find_rule(rule_name);
    if (!rule)
        return NULL;
    if (rule->slots > FASTOPTIM_MAX_SLOTS)
        return PyErr_Format(PyExc_ImportError, "%s has more slots than this module knew", rule_name);
    Py_ssize_t n = PyObject_Length(a[0]), samples = PyObject_Length(a[4]);
    if (n < 0 || samples < 0)
        return NULL;

    Py_ssize_t expected[5] = {n, rule->slots * n, samples * rule->coefs, samples * n, samples};
    for (; got < 5; got++)
        if (get(a[got], &view[got], got < 2 ? PyBUF_WRITABLE : 0, names[got], expected[got]) < 0)
            goto done;
    for (int k = 0; k < rule->slots; k++)
        s[k] = (double *) view[1].buf + k * n;
    g = PyMem_Calloc(n, sizeof(double));
    if (!g) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    run(rule, view[0].buf, s, view[2].buf, view[3].buf, view[4].buf, g, n, samples);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    while (got)
        PyBuffer_Release(&view[--got]);
    PyMem_Free(g);
    return result;
}

static PyMethodDef methods[] = {{"learn", learn, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "logistic", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_logistic(void)
{
    return PyModuleDef_Init(&module);
}
