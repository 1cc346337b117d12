/* fastoptim's rules in C: what a client of the library compiles against.

   A rule is a loop over n contiguous elements, for each dtype a plain function pointer, already of
   the best instruction set that this processor has. It allocates nothing, raises nothing, knows
   nothing of Python, and may be called without the GIL, from any thread, on elements that no other
   thread is writing. docs/c-api.md says what each rule's slots and coefficients are.

   kernels/rule.pxd is this struct in Cython; a test compiles the two against each other. */

#ifndef FASTOPTIM_H
#define FASTOPTIM_H

#include <Python.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Counts up when a field, an argument or a rule changes its meaning. Fields are only ever added, at
   the end: take rules by pointer, never by value or by size. */
#define FASTOPTIM_RULE_ABI 2
#define FASTOPTIM_CAPSULE "fastoptim.Rule"

/* Slots of the rule that has most; a later fastoptim may have one with more, so compare. */
#define FASTOPTIM_MAX_SLOTS 6

/* p parameter (in, out), g gradient (in), s state slots (in, out), c coefficients (in), n elements;
   p, g and the arrays of s are apart from each other. */
typedef void (*fastoptim_rule_f32)(float *p, const float *g, float **s, const float *c, Py_ssize_t n);
typedef void (*fastoptim_rule_f64)(double *p, const double *g, double **s, const double *c, Py_ssize_t n);

typedef struct {
    uint32_t abi;
    const char *name;
    int slots;              /* state arrays, each as large as the parameter */
    int coefs;              /* scalars, computed in double, rounded once to the parameter's dtype */
    fastoptim_rule_f32 f32;
    fastoptim_rule_f64 f64;
} fastoptim_rule;

/* Return the rule of a name, such as "adam", or NULL with a Python exception set: ValueError, there is
   no such rule; ImportError, the installed fastoptim is none or of another ABI. Call it with the
   GIL; the rule lives as long as the process. */
static inline const fastoptim_rule *fastoptim_find_rule(const char *name)
{
    const fastoptim_rule *rule = NULL;
    PyObject *find = NULL, *capsule = NULL, *kernels = PyImport_ImportModule("fastoptim.kernels");
    if (kernels)
        find = PyObject_GetAttrString(kernels, "capsule");
    if (find)
        capsule = PyObject_CallFunction(find, "s", name);
    if (capsule)
        rule = (const fastoptim_rule *) PyCapsule_GetPointer(capsule, FASTOPTIM_CAPSULE);
    Py_XDECREF(kernels);
    Py_XDECREF(find);
    Py_XDECREF(capsule);
    if (rule && rule->abi != FASTOPTIM_RULE_ABI) {
        PyErr_Format(PyExc_ImportError,
                     "this module was compiled for version %d of fastoptim's rules, but the installed "
                     "fastoptim has version %u; build the module again",
                     FASTOPTIM_RULE_ABI, (unsigned) rule->abi);
        rule = NULL;
    }
    return rule;
}

#ifdef __cplusplus
}
#endif

#endif
