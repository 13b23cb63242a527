"""Simulation of the CG model: neighbour lists, forces, Langevin dynamics, Monte Carlo barostat."""
