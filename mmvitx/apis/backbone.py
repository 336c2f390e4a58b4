"""Any config of the hosts with one of our backbones."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from mmvitx.apis import trial
from mmvitx.apis.changes import list_changes
from mmvitx.apis.levels import Level, describe, measure_backbone, measure_neck
from mmvitx.apis.preprocessing import use_preprocessing
from mmvitx.apis.recipes import DROP_PATH_RATES, use_recipe
from mmvitx.checkpoints.published import PUBLISHED, SCHEME
from mmvitx.engine.configs import walk
from mmvitx.errors import UserError
from mmvitx.models.backbones.base import STRIDES
from mmvitx.models.names import Named, find_model

NOT_HEADS = ('backbone', 'neck', 'data_preprocessor', 'train_cfg', 'test_cfg')
DILATED = (8, 16)  # strides that a dilated backbone keeps to its end


def use_backbone(
    cfg: Config, name: str, *, pretrained: bool = True, keep_optimizer: bool = False
) -> list[str]:
    """Put one of our backbones in place of the one that a config has.

    Each head sees the strides that it saw before; levels that nothing reads are not built. The
    widths follow where maps of the backbone are read, the preprocessing becomes that of our
    weights, and the optimizer the recipe of the family. Before the config is changed, the model is
    tried on a small batch, in training and prediction, with a stand-in for the backbone.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain; changed in place, unless an error is raised.
        name: A model, as ``coat_lite_small``, or published weights of another image size, as
            ``cait_xxs24_384``.
        pretrained: Start from the published ImageNet weights of that name.
        keep_optimizer: Leave optimizer, learning rates and schedule as they are.

    Returns:
        What was changed, a line each.

    Raises:
        UserError: There is no such model; or the config cannot take it, because it has no backbone
            or two, reads several maps of one stride or strides under 4, or has widths that do not
            follow from those of the backbone.
    """
    named = find_model(name)
    before = copy.deepcopy(cfg.to_dict())
    holder = _find_holder(cfg)
    old = holder['backbone']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the run will give them
        measured = measure_backbone(old, cfg.default_scope)
        model, notes = _change_model(cfg, holder, measured, named)

    backbone = model['backbone']
    backbone.update(drop_path_rate=DROP_PATH_RATES[named.family.__name__].get(named.arch, 0.0))
    if old.get('with_cp'):
        backbone['with_cp'] = True
    if pretrained:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=SCHEME + _published(name))
    holder.clear()
    holder.update(model)
    for part in (cfg.model, holder):  # what a whole model starts from has the old backbone
        part.pop('pretrained', None)
        part.pop('init_cfg', None)
    if cfg.get('load_from'):
        cfg.load_from = None
    use_preprocessing(cfg, holder)
    if not keep_optimizer:
        use_recipe(cfg, named, pretrained, measured.is_transformer)
    imports = cfg.get('custom_imports') or {}
    modules = imports.get('imports') or []
    modules = [modules] if isinstance(modules, str) else [*modules]
    cfg.custom_imports = {**imports, 'imports': [*dict.fromkeys([*modules, 'mmvitx'])]}
    return [*list_changes(before, cfg.to_dict()), *notes]


def _published(name):
    """Name published weights: those of the name, or else of its architecture at another size."""
    if name in PUBLISHED:
        return name
    return next(known for known, entry in PUBLISHED.items() if entry.arch == name and entry.size)


def _find_holder(cfg: Config) -> dict:
    """Find the part of the model that has the backbone: the model, or a detector in it."""
    parts = {'model': cfg.get('model') or {}}
    parts.update(walk(parts['model'], 'model'))
    found = [
        where
        for where, part in parts.items()
        if 'backbone' in where.rpartition('.')[2] and isinstance(part, dict) and 'type' in part
    ]
    if not found:
        raise UserError(f'{_title(cfg)} has no model.backbone that another could take the place of')
    if len(found) > 1:
        raise _refuse(cfg, f'it has two backbones, {" and ".join(found[:2])}')
    return parts[found[0].rpartition('.')[0]]


def _title(cfg):
    return f'the config {cfg.filename}' if cfg.filename else 'the config'


def _refuse(cfg, reason):
    return UserError(f'{_title(cfg)} cannot take another backbone: {reason}')


def _change_model(cfg, holder, measured, named) -> tuple[ConfigDict, list[str]]:
    """Find the model with the new backbone that passes a trial.

    Returns:
        It, and what should be known of the trial.
    """
    if cfg.default_scope == 'mmpretrain':
        for model, level in _with_class_token(holder, named):
            if not any(_try(cfg, model, [level])):
                return model, []
    channels = holder['backbone'].get('in_channels', 3)
    if channels != 3:
        raise _refuse(cfg, f'its images have {channels} channels, and the weights are for RGB')
    if measured.levels is None:
        raise _refuse(cfg, measured.error)
    unread: set[int] = set()
    while True:
        swap = _with_pyramid(cfg, holder, measured.levels, named, unread)
        tried = _try(cfg, swap.model, swap.levels)
        if tried.error:
            # a model may ask more of its backbone than maps, and a backbone a size of the images
            before = [_try(cfg, holder, levels).error for levels in (measured.levels, None)]
            kinds = [error.partition(':')[0] for error in (tried.error, *before)]
            if not all(before) or kinds[0] not in kinds[1:]:
                raise _refuse(cfg, f'its widths cannot be traced ({tried.error})')
            note = f'not tried on a batch: {tried.error}, with the old backbone too'
            return swap.model, [note]
        more = {i for i, group in swap.groups.items() if {*group} <= tried.unread}
        if not more:
            return swap.model, []
        unread |= more


def _settings(named: Named, **settings) -> ConfigDict:
    return ConfigDict(type=f'mmvitx.{named.family.__name__}', arch=named.arch, **settings)


def _build(backbone: Mapping):
    with torch.device('meta'):
        return MODELS.build(backbone)


# Trials, with a stand-in for the backbone. -------------------------------------------------------


class Tried(NamedTuple):
    """What came of a trial: an error, or which of the backbone's levels get no gradient."""

    error: str = ''
    unread: frozenset[int] = frozenset()


def _try(cfg: Config, model: Mapping, levels: Sequence[Level] | None) -> Tried:
    """Train and test a model for one step, with random maps in place of its backbone's.

    Args:
        cfg: Its config.
        model: The model.
        levels: The maps; None to try the backbone itself.
    """
    if levels:
        stand_in, calls = _make_stand_in(levels)
        model = {**model, 'backbone': dict(type=stand_in)}
    tried = ConfigDict({**dict(cfg.items()), 'model': model})
    try:
        with trial.isolated(tried):
            built = trial.build_model(tried)
            loss = trial.training_loss(built, trial.make_batch(tried))
            batch = trial.make_batch(tried)
            predictions = trial.predict(built, batch)
            if not levels:
                return Tried()
            maps = [x for call in calls for x in call]
            grads = torch.autograd.grad(loss, maps, allow_unused=True)
            read = {i % len(levels) for i, grad in enumerate(grads) if grad is not None}
        if cfg.default_scope == 'mmpretrain' and len(predictions) != len(batch['inputs']):
            return Tried('it does not predict one result an image')
        if not read:
            return Tried('the backbone gets no gradient')
        return Tried(unread=frozenset(range(len(levels))) - read)
    except Exception as e:  # a host's module may raise anything
        return Tried(describe(e))


def _make_stand_in(levels: Sequence[Level]) -> tuple[type, list]:
    """Make a module that puts out random maps of these levels, and the list of its calls."""
    calls: list[list] = []

    class Backbone(BaseModule):  # the name is in error messages
        def forward(self, images, *args, **kwargs):
            maps = []
            for stride, channels in levels:
                sides = [-(-side // stride) for side in images.shape[2:]] if stride else []
                maps.append(torch.rand(len(images), channels, *sides, requires_grad=True))
            if torch.is_grad_enabled():
                calls.append(maps)
            return tuple(maps)

    return Backbone, calls


# Classifiers: the class token in place of what the head has read. --------------------------------


def _with_class_token(holder: Mapping, named: Named) -> Iterator[tuple[ConfigDict, Level]]:
    """Give a classifier the class token, with its own head, or with a linear one."""
    backbone = _settings(named, out_type='cls_token')
    (channels,) = _build(backbone).out_channels
    head = holder.get('head')
    if not isinstance(head, Mapping) or 'num_classes' not in head:
        return
    kept = {key: head[key] for key in ('num_classes', 'loss', 'topk', 'cal_acc') if key in head}
    for new_head in (head, dict(type='LinearClsHead', **kept)):
        model = ConfigDict(copy.deepcopy(dict(holder)))
        model['backbone'] = backbone
        model['head'] = {**new_head, 'in_channels': channels}
        model.pop('neck', None)  # it pools maps
        yield model, Level(0, channels)


# Everything else: maps of the strides that were read. --------------------------------------------


class Swap(NamedTuple):
    """A model with another backbone.

    Attributes:
        model: Its config.
        levels: What the backbone puts out.
        groups: For each index of what the old backbone put out, as far as it is read, the indices
            of ``levels`` that take its place.
    """

    model: ConfigDict
    levels: list[Level]
    groups: dict[int, list[int]]


def _with_pyramid(cfg, holder, old, named, unread) -> Swap:
    """Give a model the pyramid levels that it reads.

    Args:
        cfg: The config.
        holder: The model.
        old: What its backbone puts out.
        named: The new backbone.
        unread: Indices of ``old`` that are known not to be read.
    """
    scope = cfg.default_scope
    model = ConfigDict(copy.deepcopy(dict(holder)))
    necks = model.get('neck') or []
    necks = [*necks] if isinstance(necks, (list, tuple)) else [necks]
    if necks and _is_plain(old):  # of a plain transformer, for which the neck makes the strides
        made = measure_neck(model['neck'], scope, old)
        if made and not _is_plain(made):
            old, necks = made, []

    if necks:
        first = necks[0]
        sized = 'in_channels' in first
        reads = _reads(first, old) if sized else range(len(old))
        if reads is None:
            raise _refuse(cfg, f'its widths cannot be traced to the neck {first["type"]}')
        start = _start_level(first, scope)
        reads = [i for i in reads if i >= start]
    else:
        reads = [i for head in _heads(model) for i in _reads(head, old, scope) or []]
        reads += [0 for head in _heads(model) if head.get('c1_in_channels') == old[0].channels]
        if not reads:
            raise _refuse(cfg, 'its widths cannot be traced to a head')
    kept = sorted({*reads} - unread)
    groups = _match_strides(cfg, old, kept)
    out_indices = sorted({i for group in groups.values() for i in group})
    model['backbone'] = _settings(named, out_indices=tuple(out_indices))
    built = _build(model['backbone'])
    levels = [Level(*pair) for pair in zip(built.strides, built.out_channels)]
    groups = {i: [out_indices.index(j) for j in group] for i, group in groups.items()}
    new = [
        Level(levels[group[0]].stride, sum(levels[j].channels for j in group))
        for group in groups.values()
    ]
    if any(len(group) > 1 for group in groups.values()):
        concat = dict(type='mmvitx.ConcatLevels', groups=[*groups.values()])
        model['neck'] = [concat, *necks] if necks else concat
    elif not necks:
        model.pop('neck', None)

    places = {i: place for place, i in enumerate(groups)}
    if not necks:
        _change_heads(model, scope, old, new, places)
        return Swap(model, levels, groups)
    if sized:
        widths = [new[places[i]].channels for i in reads if i in places]
        _set_widths(first, widths)
    dropped = sum(i < kept[0] for i in range(len(old)))
    if start:
        first['start_level'] = 0
    if first.get('end_level', -1) > 0:
        first['end_level'] -= dropped
    if not sized:  # it keeps the widths
        _change_heads(model, scope, old, new, places)
        return Swap(model, levels, groups)
    before = measure_neck(holder['neck'], scope, old)
    after = measure_neck(model['neck'], scope, levels)
    if before and after and before != after:  # it hands on maps of the backbone, as JPU does
        _change_heads(model, scope, before, after, {i: i for i in range(len(before))})
    return Swap(model, levels, groups)


def _is_plain(levels):
    return len(levels) > 1 and len({level.stride for level in levels}) == 1


def _match_strides(cfg, old: Sequence[Level], kept: Sequence[int]) -> dict[int, list[int]]:
    """Find the levels of our pyramid that give a model the strides that it reads.

    A dilated backbone has one stride in its last stages. The n-th of these maps becomes the first
    n of our levels from that stride on, the last one all of them.

    Raises:
        UserError: There are none.
    """
    strides = [level.stride for level in old]
    last = [i for i, stride in enumerate(strides) if stride == strides[-1]]
    groups = {}
    for i in kept:
        stride = strides[i]
        if stride < STRIDES[0]:
            raise _refuse(cfg, f'it reads a map of stride {stride}, and the finest here is 4')
        if stride not in STRIDES:
            raise _refuse(cfg, f'it reads a map of stride {stride}; here they are 4, 8, 16 and 32')
        first = STRIDES.index(stride)
        own = list(range(first, len(STRIDES)))
        if i in last and (len(last) == 1 or stride in DILATED) and len(last) <= len(own):
            groups[i] = own if i == last[-1] else own[: last.index(i) + 1]
        elif strides.count(stride) > 1:
            raise _refuse(cfg, f'it reads maps of repeated strides, {strides}')
        else:
            groups[i] = [first]
    if [strides[i] for i in kept] != sorted(strides[i] for i in kept):
        raise _refuse(cfg, f'it reads maps of repeated strides or from coarse to fine, {strides}')
    return groups


def _start_level(neck: Mapping, scope: str) -> int:
    """Tell from which level on a neck reads; some start at another than 0 by default."""
    with MODELS.switch_scope_and_registry(scope) as registry:
        parameters = inspect.signature(registry.get(neck['type'])).parameters
    default = parameters['start_level'].default if 'start_level' in parameters else 0
    return neck.get('start_level', default)


def _heads(model: Mapping) -> Iterator[dict]:
    """Yield the parts of a model behind backbone and neck, and the heads in them."""
    for key, value in model.items():
        if key not in NOT_HEADS:
            for part in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(part, Mapping):
                    yield part
                    yield from _inner_heads(part, key == 'roi_head')


def _inner_heads(node, of_regions):
    for value in node.values():
        if isinstance(value, Mapping):
            if 'in_index' in value or (of_regions and 'in_channels' in value):
                yield value
            yield from _inner_heads(value, of_regions)


def _reads(part: Mapping, levels: Sequence[Level], scope: str = '') -> list[int] | None:
    """Tell which of these levels a neck or a head reads, in the order of its ``in_channels``."""
    widths = part.get('in_channels')
    if widths is None:
        return None
    single = isinstance(widths, int)
    given = [level.channels for level in levels]
    index = part.get('in_index', -1 if single and scope == 'mmseg' else None)
    widths = [widths] if single else [*widths]
    if index is not None:
        reads = [index] if isinstance(index, int) else [*index]
        if not all(-len(given) <= i < len(given) for i in reads):
            return None
        reads = [i % len(given) for i in reads]
    elif single:
        reads = [i for i, width in enumerate(given) if width == widths[0]][-1:]
    elif widths == given[::-1]:
        reads = [*range(len(given))][::-1]
    elif widths == given or len({*given}) < len(given):
        reads = [*range(len(given))]
    else:
        reads = [given.index(width) for width in widths if width in given]
    return reads if reads and [given[i] for i in reads] == widths else None


def _change_heads(model, scope, old, new, places) -> None:
    """Give the heads the widths and places of the levels that they read."""
    for key, extractor in (model.get('roi_head') or {}).items():
        if 'roi_extractor' in key and (extractor or {}).get('out_channels') == old[-1].channels:
            extractor['out_channels'] = new[-1].channels
    for head in _heads(model):
        reads = _reads(head, old, scope)
        if head.get('c1_in_channels') == old[0].channels and 0 in places:
            head['c1_in_channels'] = new[places[0]].channels
        if reads is None or not {*reads} <= {*places}:
            continue
        widths = [new[places[i]].channels for i in reads]
        if head.get('num_convs') == 0 and head.get('channels') == head['in_channels']:
            head['channels'] = widths[0]  # it classifies what it reads
        _set_widths(head, widths)
        if isinstance(head.get('in_index'), int):
            head['in_index'] = places[reads[0]]
        elif head.get('in_index') is not None:
            head['in_index'] = [places[i] for i in reads]


def _set_widths(part: dict, widths: list[int]) -> None:
    old = part['in_channels']
    part['in_channels'] = widths[0] if isinstance(old, int) else type(old)(widths)
