"""From atoms to sites: mapping files, the linear operator, and mapped trajectories."""

from remcg.mapping.coverage import check_cutoff, check_terms, pairs_without_term
from remcg.mapping.rules import ResidueMap, SiteMap, read_mapping
from remcg.mapping.run import map_trajectory
from remcg.mapping.sites import Sites, build_sites, operator, sites_of
from remcg.mapping.table import check_campaign, describe
from remcg.mapping.warnings import find_warnings
from remcg.mapping.whole import Mapper, Unwrapper, map_positions

__all__ = [
    "Mapper",
    "ResidueMap",
    "SiteMap",
    "Sites",
    "Unwrapper",
    "build_sites",
    "check_campaign",
    "check_cutoff",
    "check_terms",
    "describe",
    "find_warnings",
    "map_positions",
    "map_trajectory",
    "operator",
    "pairs_without_term",
    "read_mapping",
    "sites_of",
]
