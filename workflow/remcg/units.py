"""Physical constants in nm, ps, amu, kJ/mol, K (CODATA; those of kT and bar are exact)."""

KB = 8.31446261815324e-3  # kJ/(mol K)
BAR = 0.0602214076  # kJ/mol/nm^3 in one bar
COULOMB = 138.93545764438198  # kJ/mol nm/e^2, of q q/(4 pi eps0 r), as in OpenMM
KG_M3 = 1.66053906892  # kg/m^3 in one amu/nm^3


def beta(temperature):
    """Inverse thermal energy 1/kT, mol/kJ, of a temperature in K."""
    return 1.0 / (KB * temperature)
