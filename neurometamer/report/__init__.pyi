from .study import build_report as build_report
