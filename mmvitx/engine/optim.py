"""Learning rates that fall with depth, for every backbone and host."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmvitx.errors import UserError
from mmvitx.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay, as in BEiT (arXiv 2106.08254), for any host's model.

    The learning rate of a parameter is multiplied by ``layer_decay_rate ** (L - 1 - l)``, where
    ``model.backbone.get_layer_depth`` gives its layer l and the number of layers L; parts that
    are not of the backbone are in layer L - 1. Everything else in ``paramwise_cfg`` means what it
    does in mmengine. Parameters with equal settings share one group of the optimizer, so that it
    updates them together.

    Example::

        optim_wrapper = dict(
            constructor='mmvitx.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0),
        )

    Args:
        optim_wrapper_cfg: The ``optim_wrapper`` of a config, as mmengine hands it over.
        paramwise_cfg: Its ``paramwise_cfg``, with ``layer_decay_rate`` in (0, 1].

    Raises:
        UserError: ``layer_decay_rate`` is missing or out of range, or the model has no backbone
            that knows the depth of its layers.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        if self.base_lr is None:
            raise UserError(
                'LayerDecayOptimWrapperConstructor multiplies learning rates: state the lr of the '
                'optimizer'
            )
        self.rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(self.rate, (int, float)) or not 0 < self.rate <= 1:
            raise UserError(
                'paramwise_cfg of LayerDecayOptimWrapperConstructor needs a layer_decay_rate in '
                f'(0, 1], as 0.8, not {self.rate!r}'
            )

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Add the parameters of a module, as mmengine calls it: see the base class."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # a part, at which mmengine's recursion calls again
            return
        get_layer_depth = getattr(getattr(module, 'backbone', None), 'get_layer_depth', None)
        if get_layer_depth is None:
            raise UserError(
                'layer_decay_rate needs a model whose backbone has get_layer_depth, as those of '
                f'mmvitx have; this is a {type(module).__name__} with the backbone '
                f'{type(getattr(module, "backbone", None)).__name__}'
            )
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        defaults = dict(lr=self.base_lr, weight_decay=self.base_wd)
        applied = ('lr_mult', 'decay_mult')  # by mmengine, which leaves them there
        merged: dict[str, dict] = {}
        done = set()
        for group in params:
            (parameter,) = group.pop('params')
            if id(parameter) in done:
                raise UserError(
                    f'{names[id(parameter)]} is shared by several modules and would be updated '
                    'twice: set bypass_duplicate=True in paramwise_cfg'
                )
            done.add(id(parameter))
            settings = {k: v for k, v in {**defaults, **group}.items() if k not in applied}
            depth, num_layers = get_layer_depth(names[id(parameter)], 'backbone.')
            settings['lr'] *= self.rate ** (num_layers - 1 - depth)
            if settings['weight_decay'] is None:  # an optimizer without
                del settings['weight_decay']
            same = merged.setdefault(repr(sorted(settings.items())), {**settings, 'params': []})
            same['params'].append(parameter)
        params[:] = merged.values()
