include "rules.pyx"
