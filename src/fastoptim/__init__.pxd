"""What a Cython client cimports: ``from fastoptim cimport Rule, find_rule``."""

from fastoptim.kernels.api cimport find_rule
from fastoptim.kernels.rule cimport MAX_SLOTS, RULE_ABI, Rule, rule_f32, rule_f64
