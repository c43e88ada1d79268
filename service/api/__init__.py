"""HTTP: routes, problem documents and admission around the pipeline."""
