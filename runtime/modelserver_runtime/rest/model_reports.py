"""What is said about a model: to whoever asks for it, and in the server's status."""

from dataclasses import asdict

from modelserver_runtime.backends.costs import TokenCost
from modelserver_runtime.errors import StartupFailure
from modelserver_runtime.models.served import ModelState, ServedModel
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.schemas.models import (
    LoadedReport,
    LoadFailureReport,
    LoadProgress,
    ModelReport,
    ModelReports,
    TokenCostReport,
)


def reports_of(context: ServerContext) -> ModelReports:
    reports = [report_of(context, model) for model in context.usable_models]
    settings = context.settings
    return ModelReports(
        models=reports,
        in_memory=sum(report.loaded is not None for report in reports),
        max_loaded=settings.max_loaded_models,
        memory_bytes=sum(report.loaded.memory_bytes for report in reports if report.loaded),
        budget_bytes=settings.memory_budget_bytes or None,
    )


def report_of(context: ServerContext, model: ServedModel) -> ModelReport:
    settings = model.settings
    return ModelReport(
        name=model.name,
        aliases=settings.aliases,
        state=model.state,
        is_primary=model.keeping.is_primary,
        is_pinned=not model.may_leave,
        is_preloaded=model.keeping.is_primary or model.keeping.is_preloaded,
        uri=settings.model_uri,
        directory=settings.model_directory,
        revision=settings.model_revision,
        requests=model.leases,
        seconds_since_use=context.clock() - model.last_used,
        progress=_progress(model),
        failure=_failure(context, model),
        loaded=_loaded(model),
    )


def _progress(model: ServedModel) -> LoadProgress | None:
    if model.state is not ModelState.LOADING:
        return None
    report = model.lifecycle.report()
    return LoadProgress(phase=report.phase, percent=report.percent, message=report.message)


def _failure(context: ServerContext, model: ServedModel) -> LoadFailureReport | None:
    failure = model.lifecycle.failure or (model.load_failure and model.load_failure.failure)
    if failure is None or model.is_in_memory:
        return None
    return LoadFailureReport(
        code=type(failure).__name__,
        message=str(failure),
        hint=failure.hint if isinstance(failure, StartupFailure) else "",
        retry_after_seconds=max(0.0, context.models.pause_left(model)),
    )


def _token_cost(cost: TokenCost | None) -> TokenCostReport | None:
    return None if cost is None else TokenCostReport(**asdict(cost))


def _loaded(model: ServedModel) -> LoadedReport | None:
    service = model.lifecycle.current
    if service is None:
        return None
    what = service.description
    return LoadedReport(
        task=what.task,
        architecture=what.architecture,
        parameters=what.parameters,
        dtype=what.dtype,
        device=what.device,
        threads=what.threads,
        engine=what.engine,
        engine_reason=what.engine_reason,
        memory_bytes=model.size_bytes,
        max_model_length=service.max_model_length,
        token_cost=_token_cost(what.token_cost),
        circuits={str(failure): str(state) for failure, state in service.gate.circuits().items()},
    )
