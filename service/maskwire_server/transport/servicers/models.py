"""`maskwire.v1.ModelService` over the domain's registry of models."""

from __future__ import annotations

from maskwire.v1 import model_pb2, model_pb2_grpc

from ...domain.models import ModelRegistry
from ..calls import ServicerContext
from ..converters.models import model_to_proto


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Tells which models are served and what they can do."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    async def ListModels(  # noqa: N802  # the contract's name
        self, request: model_pb2.ListModelsRequest, context: ServicerContext
    ) -> model_pb2.ListModelsResponse:
        """List the models, the default one first."""
        models = self._models.list()
        return model_pb2.ListModelsResponse(models=[model_to_proto(model) for model in models])

    async def GetModel(  # noqa: N802  # the contract's name
        self, request: model_pb2.GetModelRequest, context: ServicerContext
    ) -> model_pb2.GetModelResponse:
        """Describe one model."""
        return model_pb2.GetModelResponse(model=model_to_proto(self._models.resolve(request.name)))
