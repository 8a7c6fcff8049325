"""Every guarantee as data: symbolic ids, levels, sources, and how each is tested."""

from forge3d_conformance.catalogue.catalogue import Area, Catalogue
from forge3d_conformance.catalogue.clause import Clause, Level, RunLevel, Status
from forge3d_conformance.catalogue.coverage import gaps
from forge3d_conformance.catalogue.load import load
from forge3d_conformance.catalogue.selection import refuse_nothing

__all__ = ["Area", "Catalogue", "Clause", "Level", "RunLevel", "Status", "gaps", "load", "refuse_nothing"]
