"""What this processor can do, asked before any module that needs it is imported."""

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    /* The builtins also ask whether the operating system saves the wide registers. */
    static int fo_has_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
    static int fo_has_avx512(void) {
        return fo_has_avx2() && __builtin_cpu_supports("avx512f")
            && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int fo_has_avx2(void) { return 0; }
    static int fo_has_avx512(void) { return 0; }
    #endif
    """
    bint fo_has_avx2() nogil
    bint fo_has_avx512() nogil


def instruction_sets():
    """Names of the instruction sets that this processor has, plainest first."""
    names = ["baseline"]
    if fo_has_avx2():
        names.append("avx2")
    if fo_has_avx512():
        names.append("avx512")
    return names


cdef extern from *:
    """
    #ifndef FASTOPTIM_FLAGS  /* setup.py defines it */
    #define FASTOPTIM_FLAGS ""
    #endif
    #if defined(__clang__)
    #define FO_COMPILER __VERSION__  /* "Clang 14.0.6", with more behind it */
    #elif defined(__GNUC__)
    #define FO_COMPILER "gcc " __VERSION__
    #else
    #define FO_COMPILER "unknown"
    #endif
    """
    const char *FASTOPTIM_FLAGS
    const char *FO_COMPILER


def built_with():
    """The compiler, and the flags that setup.py gave it: those of all modules, those of variants."""
    return FO_COMPILER.decode(), FASTOPTIM_FLAGS.decode()
