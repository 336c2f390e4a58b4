"""The table of inputs: what a user may give to the tools, and what must come of it.

Where the host itself runs a config, our tools run it. Everything else ends with one sentence that
names the setting. A row is one line:

    option(host, 'key=value', expect)       an option of --cfg-options for tools/train.py
    config(host, 'python code', expect)     lines at the end of the tiny config of conftest.py
    data(host, what, change, expect)        a function that changes a copy of the tiny data
    command('tool arguments', expect)       any command line

``expect`` is RUNS, or what the sentence must match: regular expressions with & between them, in any
order. More words:

    says    what the output of a run must match
    check   whether a run did what it should; by default, that a model was trained
    why     needed where the expectation is another than what the host does

``python tests/reliability/inputs.py [--judge] [PATTERN]`` runs the rows whose names match, with
--judge by the host itself, and prints what came of each beside its expectation.
"""

# ruff: noqa: E501 -- a row of the table is a line

from __future__ import annotations

import argparse
import base64
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1])]  # of conftest.py, where pytest does not run

RUNS = None
TRAIN = '{config} --work-dir {work}'


class Row(NamedTuple):
    """An input; see above."""

    what: str
    tool: str
    words: str
    expect: str | None
    host: str = 'mmdet'
    lines: str = ''
    spoil: Callable[[Path], None] | None = None
    says: str | None = None
    check: Callable[[Any], bool] = lambda run: True
    why: str = ''
    setting: str = ''


ROWS: dict[str, Row] = {}

# what the lines of a config may name in braces
SNIPPETS = dict(
    iters="train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2)\ntrain_dataloader['sampler'] = dict(type='InfiniteSampler')\nlog_processor = dict(by_epoch=False)\ndefault_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))\n",
    coat="_delete_=True, type='mmvitx.CoaT', arch=dict(embed_dims=(32, 64, 96, 128), serial_depths=(1, 1, 1, 1), parallel_depth=0, mlp_ratios=(4, 4, 4, 4))",
    fits="model['neck'].update(in_channels=[32, 64, 96, 128])",
)


def trained(run: Any) -> bool:
    """Whether a training did something, with weights that are numbers, and left a checkpoint."""
    weights = run.result.model.state_dict().values()
    finite = all(value.isfinite().all() for value in weights)
    return run.result.iter > 0 and finite and any(run.folder.glob('work/*.pth'))


def _add(what, tool, words, expect, **more):
    assert what not in ROWS, f'two rows are called {what}'
    ROWS[what] = Row(what, tool, words, expect, **more)


def option(host: str, options: str, expect: str | None, **more: Any) -> None:
    key = shlex.split(options)[0].partition('=')[0]
    more = {'check': trained, 'setting': f'{host} {key}', **more}
    _add(
        f'{host}: {options}', 'train', f'{TRAIN} --cfg-options {options}', expect, host=host, **more
    )


def config(host: str, lines: str, expect: str | None, check: Any = trained, **more: Any) -> None:
    more['lines'] = f'\n{lines}\n'
    what = lines.strip().replace('\n', '; ')
    _add(f'{host}: {what}', 'train', TRAIN, expect, host=host, check=check, **more)


def data(host: str, what: str, spoil: Any, expect: str | None, **more: Any) -> None:
    more = {'check': trained, **more}
    words = f'{TRAIN} {more.pop("words", "")}'
    more['lines'] = f'\n{more.pop("lines", "")}\n'
    _add(f'{host}, data: {what}', 'train', words, expect, host=host, spoil=spoil, **more)


def command(line: str, expect: str | None, note: str = '', **more: Any) -> None:
    tool, _, words = line.partition(' ')
    what = f'{more["host"]}: {line}' if 'host' in more else line
    _add(what + note, tool, words, expect, **more)


# fmt: off
NOTHING = 'the host ends without having trained'

# ----------------------------------------------------------------------------- dataloaders
config('mmdet', '# as it is', RUNS)
config('mmseg', '# as it is', RUNS)
config('mmpretrain', '# as it is', RUNS)

option('mmdet', 'train_dataloader.batch_size=0', 'train_dataloader.batch_size')
option('mmdet', 'train_dataloader.batch_size=2.5', 'train_dataloader.batch_size')
option('mmdet', 'train_dataloader.batch_size=four', 'train_dataloader.batch_size')
option('mmseg', 'train_dataloader.batch_size=-2', 'train_dataloader.batch_size')
option('mmseg', 'train_dataloader.batch_size=4', RUNS)
option('mmpretrain', 'train_dataloader.batch_size=64', RUNS)
option('mmpretrain', 'train_dataloader.batch_size=None', 'train_dataloader.batch_size')
option('mmdet', 'val_dataloader.batch_size=-2', 'val_dataloader.batch_size')
option('mmdet', 'val_dataloader.batch_size=3', RUNS)
option('mmdet', 'train_dataloader.batch_sise=2', 'batch_sise')
option('mmdet', 'train_dataloader.num_workers=-1', 'train_dataloader.num_workers')
option('mmdet', 'train_dataloader.num_workers=two', 'train_dataloader.num_workers')
option('mmdet', 'train_dataloader.num_workers=1', RUNS)
option('mmseg', 'val_dataloader.num_workers=-1', 'val_dataloader.num_workers')
option('mmpretrain', 'train_dataloader.num_workers=1.5', 'train_dataloader.num_workers')
option('mmdet', 'train_dataloader.persistent_workers=True', 'train_dataloader.persistent_workers')
option('mmseg', 'train_dataloader.persistent_workers=True train_dataloader.num_workers=1', RUNS)
option('mmpretrain', 'val_dataloader.persistent_workers=True', 'val_dataloader.persistent_workers')
option('mmdet', 'train_dataloader.prefetch_factor=2', 'train_dataloader.prefetch_factor')
option('mmdet', 'train_dataloader.timeout=-1', 'train_dataloader.timeout')
option('mmdet', 'train_dataloader.drop_last=True', RUNS)
option('mmseg', 'train_dataloader.drop_last=True train_dataloader.batch_size=8', 'drop_last|batch_size', why=NOTHING)
option('mmdet', 'train_dataloader.pin_memory=True', RUNS)
option('mmdet', 'train_dataloader.shuffle=True', 'train_dataloader & shuffle')
option('mmdet', 'train_dataloader.sampler.type=DefaultSamplr', 'train_dataloader.sampler & DefaultSampler')
option('mmdet', 'train_dataloader.sampler.shuffel=True', 'train_dataloader.sampler & shuffel')
option('mmdet', 'train_dataloader.sampler.shuffle=False', RUNS)
option('mmseg', 'train_dataloader.sampler.type=InfiniteSampler', 'train_dataloader.sampler')
option('mmdet', 'train_dataloader.sampler=None', RUNS)
option('mmdet', 'train_dataloader.sampler=DefaultSampler', 'train_dataloader.sampler')
config('mmdet', "del train_dataloader['sampler']", RUNS)
config('mmdet', "train_dataloader['batch_sampler'] = dict(type='AspectRatioBatchSampler')", RUNS)
config('mmdet', "train_dataloader['batch_sampler'] = dict(type='AspectRatio')", 'batch_sampler & AspectRatioBatchSampler')
option('mmdet', 'train_dataloader.collate_fn.type=pseudo_collate', RUNS)
option('mmdet', 'train_dataloader.collate_fn.type=default_collate', RUNS)
option('mmdet', 'train_dataloader.collate_fn.type=pseudo_colate', 'collate_fn & pseudo_collate')
config('mmdet', 'train_dataloader = None', 'train_dataloader')
config('mmseg', "del train_dataloader['dataset']", 'train_dataloader & dataset')
config('mmpretrain', "del train_dataloader['batch_size']", RUNS)
config('mmseg', 'del train_dataloader', 'train_dataloader')
config('mmdet', 'val_dataloader = None', 'val_dataloader|val_cfg')
config('mmseg', 'val_dataloader = val_cfg = val_evaluator = None', RUNS)

# ----------------------------------------------------------------------------- datasets
DATASET = 'train_dataloader.dataset'
option('mmdet', f'{DATASET}.type=CocoDatset', f'{DATASET} & CocoDataset')
option('mmseg', f'{DATASET}.type=BaseSegDatset', f'{DATASET} & BaseSegDataset')
option('mmpretrain', f'{DATASET}.type=CustomDatset', f'{DATASET} & CustomDataset')
option('mmdet', f'{DATASET}.type=None', f'{DATASET} & type')
option('mmdet', f'{DATASET}.type=BaseSegDataset', f'{DATASET} & BaseSegDataset')
option('mmdet', f'{DATASET}.data_root=/nowhere', f'{DATASET} & /nowhere')
option('mmseg', f'{DATASET}.data_root=/nowhere', f'{DATASET} & /nowhere')
option('mmpretrain', f'{DATASET}.data_root=/nowhere', f'{DATASET} & /nowhere')
option('mmdet', f'{DATASET}.ann_file=none.json', f'{DATASET} & none.json')
option('mmdet', f'{DATASET}.ann_file=images', f'{DATASET} & images')
option('mmdet', f'{DATASET}.ann_file=classes.txt', 'classes.txt')
option('mmpretrain', f'{DATASET}.ann_file=none.txt', f'{DATASET} & none.txt')
option('mmpretrain', f'{DATASET}.ann_file=coco.json', 'coco.json')
option('mmdet', f'{DATASET}.data_prefix.img=none', f'{DATASET} & none')
option('mmdet', f'{DATASET}.data_prefix=3', f'{DATASET} & data_prefix')
option('mmdet', f'{DATASET}.data_prefix.img=images/', RUNS)
option('mmdet', f'{DATASET}.data_prefix.imgs=images', RUNS, says='did you mean .*data_prefix.img')
option('mmseg', f'{DATASET}.data_prefix.img_path=none', f'{DATASET} & none')
option('mmseg', f'{DATASET}.data_prefix.seg_map_path=none', f'{DATASET} & none')
option('mmpretrain', f'{DATASET}.data_prefix=none', f'{DATASET} & none')
option('mmseg', f'{DATASET}.img_suffix=.jpg', f'{DATASET} & jpg|img_suffix')
option('mmseg', f'{DATASET}.seg_map_suffix=.gif', 'gif|seg_map_suffix')
option('mmseg', f'{DATASET}.reduce_zero_label=True', RUNS)
option('mmdet', f'{DATASET}.indices=2', RUNS)
option('mmdet', f'{DATASET}.indices=many', f'{DATASET}.indices')
option('mmdet', f'{DATASET}.indices=0', f'{DATASET} & (indices|no image)')
option('mmpretrain', f'{DATASET}.indices=[0,2]', RUNS)
option('mmdet', f'{DATASET}.lazy_init=True', RUNS)
option('mmdet', f'{DATASET}.serialize_data=False', RUNS)
option('mmdet', f'{DATASET}.max_refetch=-1', 'train_dataloader.dataset & -1')
option('mmdet', f'{DATASET}.filter_cfg.min_size=8', RUNS)
option('mmdet', f'{DATASET}.filter_cfg.min_size=1000', f'{DATASET} & filter_cfg')
option('mmdet', f'{DATASET}.filter_cfg.min_size=big', f'{DATASET} & (filter_cfg|min_size)')
option('mmdet', f'{DATASET}.filter_cfg.filter_empty_gt=True', RUNS)
option('mmdet', f'{DATASET}.datatype=coco', f'{DATASET} & datatype')
option('mmdet', f'{DATASET}.test_mode=True', RUNS)
option('mmdet', 'train_dataloader.dataset=3', 'train_dataloader.dataset')
LOST = 'the host trains without a word on no objects'
config('mmdet', "del train_dataloader['dataset']['metainfo']", f'{DATASET} & classes', why=LOST)
option('mmdet', f'{DATASET}.metainfo.classes=(bar,square,plate)', f'{DATASET} & (classes|order)', why='the host takes one class for another')
option('mmdet', f'{DATASET}.metainfo.classes=(cat,dog,cow)', f'{DATASET} & classes', why=LOST)
option('mmdet', f'{DATASET}.metainfo.classes=square', f'{DATASET} & classes', why='the host takes each letter for a class')
option('mmdet', 'val_dataloader.dataset.metainfo.classes=(square,square,plate)', 'val_dataloader.dataset & (classes|square)')
option('mmdet', 'val_dataloader.dataset.metainfo.classes=(plate,bar,square)', 'val_dataloader.dataset & (classes|order)', why='the host takes one class for another')
option('mmdet', 'val_dataloader.dataset.metainfo.classes=3', 'val_dataloader.dataset & classes')
option('mmseg', f'{DATASET}.metainfo.classes=3', f'{DATASET} & classes')
option('mmpretrain', f'{DATASET}.metainfo.classes=None', RUNS)
config('mmdet', "dataset['metainfo'] = dict(classes=('square', 'bar'))\ntrain_dataloader['dataset']['metainfo'] = dataset['metainfo']", RUNS)
FOUR = "for each in train_dataloader, val_dataloader:\n    each['dataset']['metainfo'] = dict(classes=('square', 'bar', 'plate', 'disc'))"
config('mmdet', f"{FOUR}\nfor each in 'bbox_head', 'mask_head':\n    model['roi_head'][each]['num_classes'] = 4", RUNS)
config('mmdet', "train_dataloader['dataset'] = dict(type='RepeatDataset', times=2, dataset=train_dataloader['dataset'])", RUNS)
config('mmdet', "train_dataloader['dataset'] = dict(type='RepeatDataset', times=0, dataset=train_dataloader['dataset'])", 'train_dataloader & 0 images')
config('mmdet', "train_dataloader['dataset'] = dict(type='RepeatDatset', dataset=train_dataloader['dataset'])", f'{DATASET} & RepeatDataset')
config('mmdet', "train_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[train_dataloader['dataset']] * 2)", RUNS)
config('mmseg', "train_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[])", f'{DATASET} & datasets')
config('mmseg', "del dataset['metainfo']['palette']", RUNS)
config('mmpretrain', "train_dataloader['dataset'] = dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=train_dataloader['dataset'])", RUNS)

# ----------------------------------------------------------------------------- pipelines
PIPE = 'train_dataloader.dataset.pipeline'
option('mmdet', f'{PIPE}=[]', f'{PIPE}')
option('mmseg', f'{PIPE}=[]', f'{PIPE}')
option('mmpretrain', f'{PIPE}=[]', f'{PIPE}')
option('mmdet', f'{PIPE}=None', f'{PIPE}')
option('mmdet', f'{PIPE}.2.type=Resise', f'{PIPE}.2 & Resize')
option('mmseg', f'{PIPE}.2.type=PackSegInput', f'{PIPE}.2 & PackSegInputs')
option('mmpretrain', f'{PIPE}.1.type=PackInput', f'{PIPE}.1 & PackInputs')
option('mmdet', f'{PIPE}.2.scale=0', f'{PIPE}.2 & scale')
option('mmdet', f'{PIPE}.2.scale=(0,0)', f'{PIPE}.2 & scale')
option('mmdet', f'{PIPE}.2.scale=(48,64)', RUNS)
option('mmseg', f'{PIPE}.2.meta_keys=(nothing,)', RUNS)
option('mmdet', f'{PIPE}.2.keep_ratio=False', RUNS)
option('mmdet', f'{PIPE}.2.keep_ration=True', f'{PIPE}.2 & keep_ration')
option('mmdet', f'{PIPE}.0.color_type=grayscale', f'color_type|mean|channels|{PIPE}')
option('mmdet', f'{PIPE}.0.color_type=gray', f'{PIPE}.0 & color_type')
option('mmdet', f'{PIPE}.0.to_float32=True', RUNS)
option('mmdet', f'{PIPE}.0.imdecode_backend=pillow', RUNS)
option('mmdet', f'{PIPE}.0.imdecode_backend=tifffile', f'{PIPE}.0 & imdecode_backend')
option('mmdet', f'{PIPE}.0.imdecode_backend=fast', f'{PIPE}.0 & imdecode_backend')
option('mmdet', f'{PIPE}.0.backend_args.backend=local', RUNS)
option('mmdet', f'{PIPE}.0.backend_args.backend=s4', f'{PIPE}.0 & backend')
option('mmdet', f'{PIPE}.1.with_mask=False', f'{PIPE} & mask')
option('mmdet', f'{PIPE}.1.with_bbox=False', f'{PIPE} & box')
option('mmdet', f'{PIPE}.1.with_label=False', f'{PIPE} & label')
option('mmdet', f'{PIPE}.1.poly2mask=False', RUNS)
config('mmdet', 'train_pipeline.pop()', 'pipeline')
config('mmdet', 'train_pipeline.insert(0, train_pipeline.pop())', 'pipeline')
config('mmdet', 'train_pipeline.insert(0, train_pipeline.pop(2))', 'pipeline.0')
config('mmseg', 'train_pipeline.pop(1)', 'train_dataloader.dataset.pipeline')
config('mmseg', 'train_pipeline.pop(0)', 'train_dataloader.dataset.pipeline')
config('mmpretrain', 'train_pipeline.pop(0)', 'dataloader.dataset.pipeline')
config('mmdet', "train_pipeline.insert(3, dict(type='RandomFlip', prob=0.5))", RUNS)
config('mmdet', "train_pipeline.insert(3, dict(type='RandomFlip', prob=2))", 'pipeline.3 & prob')
config('mmdet', "train_pipeline.insert(3, dict(type='RandomFlip'))", 'pipeline.3 & prob')
config('mmdet', "train_pipeline.insert(3, dict(typ='RandomFlip'))", 'pipeline.3 & typ')
config('mmdet', "train_pipeline.insert(3, 'RandomFlip')", 'pipeline.3')
config('mmdet', "train_pipeline.insert(3, dict(type='RandomCrop', crop_size=(0, 8)))", 'pipeline.3 & crop_size')
config('mmdet', "train_pipeline.insert(3, dict(type='RandomCrop', crop_size=(48, 48)))", RUNS)
config('mmseg', "train_pipeline.insert(2, dict(type='RandomCrop', crop_size=(32, 32)))", RUNS)
config('mmseg', "train_pipeline.insert(2, dict(type='RandomCrop', crop_size=32.5))", 'pipeline.2 & crop_size')
config('mmseg', "train_pipeline.insert(2, dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2)))", 'size|pipeline')
config('mmpretrain', "train_pipeline.insert(1, dict(type='RandomResizedCrop', scale=32))", RUNS)
config('mmpretrain', "train_pipeline.insert(1, dict(type='RandomResizedCrop', scale='32'))", 'pipeline.1 & scale')
config('mmpretrain', "train_pipeline.insert(1, dict(type='Rotatte', angle=10))", 'pipeline.1 & Rotate')
config('mmdet', "train_dataloader['dataset'] = dict(type='MultiImageMixDataset', dataset=train_dataloader['dataset'], pipeline=[])", RUNS)
config('mmdet', 'tta_pipeline = None', RUNS)
config('mmdet', "train_pipeline.insert(2, dict(type='LoadAnnotations', with_bbox=True, with_mask=True))", RUNS)

# ----------------------------------------------------------------------------- optimizers
OPTIM = 'optim_wrapper.optimizer'
option('mmdet', f'{OPTIM}.type=AdamWW', f'{OPTIM} & AdamW')
option('mmdet', f'{OPTIM}.type=SGD', RUNS)
option('mmdet', f'{OPTIM}.lr=fast', f'{OPTIM} & lr')
option('mmdet', f'{OPTIM}.lr=-1', f'{OPTIM} & lr')
option('mmdet', f'{OPTIM}.lr=None', f'{OPTIM} & lr')
option('mmseg', f'{OPTIM}.lr=NaN', f'{OPTIM} & lr')
option('mmseg', f'{OPTIM}.lr=[0.1]', f'{OPTIM} & lr')
option('mmpretrain', f'{OPTIM}.lr=0.01', RUNS)
option('mmdet', f'{OPTIM}.weight_decay=-1', f'{OPTIM} & weight_decay')
option('mmdet', f'{OPTIM}.weight_decay=0.05', RUNS)
option('mmdet', f'{OPTIM}.weight_decay=small', f'{OPTIM} & weight_decay')
option('mmdet', f'{OPTIM}.betas=(0.9,)', f'{OPTIM} & betas')
option('mmdet', f'{OPTIM}.betas=(0.9,2)', f'{OPTIM} & bet')
option('mmdet', f'{OPTIM}.betas=(0.8,0.99)', RUNS)
option('mmdet', f'{OPTIM}.learning_rate=0.1', f'{OPTIM} & learning_rate')
option('mmdet', f'{OPTIM}.momentum=0.9', f'{OPTIM} & momentum')
option('mmseg', f'{OPTIM}.type=SGD {OPTIM}.momentum=heavy', f'{OPTIM} & momentum')
option('mmdet', f'{OPTIM}=None', f'{OPTIM}')
option('mmdet', f'{OPTIM}=AdamW', f'{OPTIM}')
option('mmdet', 'optim_wrapper=None', 'optim_wrapper')
option('mmseg', 'optim_wrapper=3', 'optim_wrapper')
option('mmdet', 'optim_wrapper.type=OptimWraper', 'optim_wrapper & OptimWrapper')
option('mmdet', 'optim_wrapper.type=AmpOptimWrapper', RUNS, why='without an accelerator it trains in float32')
config('mmdet', 'del optim_wrapper', 'optim_wrapper')
config('mmseg', "optim_wrapper = dict(type='OptimWrapper')", 'optim_wrapper & optimizer')
option('mmdet', 'optim_wrapper.clip_grad.max_norm=1', RUNS)
option('mmdet', 'optim_wrapper.clip_grad.max_norm=big', 'optim_wrapper.clip_grad')
option('mmdet', 'optim_wrapper.clip_grad=strong', 'optim_wrapper.clip_grad')
option('mmdet', 'optim_wrapper.clip_grad.max_nrm=1', 'optim_wrapper.clip_grad')
option('mmseg', 'optim_wrapper.clip_grad.type=value optim_wrapper.clip_grad.clip_value=1', RUNS)
option('mmseg', 'optim_wrapper.clip_grad.type=values', 'optim_wrapper.clip_grad')
option('mmdet', 'optim_wrapper.accumulative_counts=2', RUNS)
option('mmdet', 'optim_wrapper.accumulative_counts=0', 'optim_wrapper & accumulative_counts')
option('mmdet', 'optim_wrapper.accumulative_counts=two', 'optim_wrapper & accumulative_counts')
option('mmseg', 'optim_wrapper.accumulative_count=2', 'optim_wrapper & accumulative_count')
option('mmdet', 'optim_wrapper.paramwise_cfg.norm_decay_mult=0 optim_wrapper.optimizer.weight_decay=0.1', RUNS)
option('mmdet', 'optim_wrapper.paramwise_cfg.norm_decay_mult=none optim_wrapper.optimizer.weight_decay=0.1', 'optim_wrapper.paramwise_cfg')
option('mmdet', 'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.1', RUNS)
option('mmdet', 'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=low', 'optim_wrapper.paramwise_cfg')
option('mmseg', 'optim_wrapper.paramwise_cfg.custom_keys=3', 'optim_wrapper.paramwise_cfg & custom_keys')
option('mmdet', 'optim_wrapper.paramwise_cfg=3', 'optim_wrapper.paramwise_cfg')
option('mmdet', 'optim_wrapper.constructor=Nope', 'optim_wrapper & Nope')
option('mmdet', 'optim_wrapper.constructor=LayerDecayOptimWrapperConstructor', 'optim_wrapper & (constructor|LayerDecay)')

# ----------------------------------------------------------------------------- schedules
option('mmdet', 'param_scheduler=None', RUNS)
option('mmdet', 'param_scheduler=3', 'param_scheduler')
config('mmdet', "param_scheduler = dict(type='ConstantLR', factor=0.5)", RUNS)
option('mmdet', 'param_scheduler.0.type=MultiStepLr', 'param_scheduler & MultiStepLR')
option('mmdet', 'param_scheduler.0.milestones=8', 'param_scheduler & milestones')
option('mmdet', 'param_scheduler.0.milestones=[a]', 'param_scheduler & milestones', why='no epoch is called a')
option('mmdet', 'param_scheduler.0.milestones=[1,2]', RUNS)
option('mmdet', 'param_scheduler.0.gamma=x param_scheduler.0.milestones=[1] train_cfg.max_epochs=3', 'param_scheduler & gamma')
option('mmdet', 'param_scheduler.0.gama=0.1', 'param_scheduler & gama')
option('mmdet', 'param_scheduler.0.begin=5 param_scheduler.0.end=2', 'param_scheduler & (begin|end)')
option('mmdet', 'param_scheduler.0.begin=5', 'param_scheduler & begin')
option('mmdet', 'param_scheduler.0.begin=x', 'param_scheduler & begin')
option('mmdet', 'param_scheduler.0.end=0', 'param_scheduler & end')
option('mmdet', 'param_scheduler.0.by_epoch=False param_scheduler.0.milestones=[1]', RUNS)
option('mmdet', 'param_scheduler.0.convert_to_iter_based=True param_scheduler.0.end=2', RUNS)
option('mmdet', 'param_scheduler.0.convert_to_iter_based=True param_scheduler.0.by_epoch=False', 'param_scheduler & convert_to_iter_based')
config('mmdet', "param_scheduler = [dict(milestones=[8])]", 'param_scheduler & type')
config('mmdet', "param_scheduler = [dict(type='MultiStepLR')]", 'param_scheduler & milestones')
config('mmdet', "param_scheduler = [dict(type='LinearLR', start_factor=2.0)]", 'param_scheduler & (start_factor|[Ff]actor)')
config('mmdet', "param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)]", RUNS)
config('mmdet', "param_scheduler = [dict(type='OneCycleLR', eta_max=0.01)]", RUNS)
config('mmdet', "param_scheduler = [dict(type='StepLR', step_size=0)]\ntrain_cfg['max_epochs'] = 3", 'param_scheduler & step_size')
config('mmdet', "param_scheduler = [dict(type='CosineAnnealingLR', T_max=0)]\ntrain_cfg['max_epochs'] = 3", RUNS)
config('mmseg', "param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=4, by_epoch=False)]", RUNS)
config('mmseg', "param_scheduler = [dict(type='PolyLR', power='0.9', begin=0, end=4, by_epoch=False)]", 'param_scheduler & power')
config('mmpretrain', "param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=1, convert_to_iter_based=True)]", RUNS)
config('mmdet', "param_scheduler = ['LinearLR']", 'param_scheduler')

# ----------------------------------------------------------------------------- loops
option('mmdet', 'train_cfg.max_epochs=0', 'train_cfg & max_epochs')
option('mmdet', 'train_cfg.max_epochs=2.5', 'train_cfg & max_epochs')
option('mmdet', 'train_cfg.max_epochs=many', 'train_cfg & max_epochs')
option('mmseg', 'train_cfg.max_epochs=2', RUNS)
option('mmseg', 'train_cfg.max_epochs=None', 'train_cfg & max_epochs')
option('mmseg', 'train_cfg.max_epochs=-1', 'train_cfg & max_epochs')
config('mmseg', '{iters}', RUNS)
config('mmdet', '{iters}train_cfg["max_iters"] = "many"', 'train_cfg & max_iters')
config('mmdet', '{iters}train_cfg["max_iters"] = 2.5', 'train_cfg & max_iters')
config('mmseg', '{iters}train_cfg["max_iters"] = 0', 'train_cfg & max_iters', why=NOTHING)
config('mmseg', '{iters}train_cfg["max_iters"] = -5', 'train_cfg & max_iters', why=NOTHING)
config('mmpretrain', '{iters}del train_cfg["max_iters"]', 'train_cfg & max_iters')
config('mmpretrain', '{iters}train_dataloader["sampler"] = dict(type="DefaultSampler", shuffle=True)', RUNS)
config('mmseg', '{iters}default_hooks["checkpoint"]["by_epoch"] = True', RUNS, check=lambda run: run.result.iter == 4)
option('mmdet', 'train_cfg.val_interval=0', 'train_cfg & val_interval')
option('mmdet', 'train_cfg.val_interval=often', 'train_cfg & val_interval')
option('mmdet', 'train_cfg.val_interval=5', RUNS)
option('mmseg', 'train_cfg.val_interval=0.5', RUNS)
option('mmdet', 'train_cfg.val_begin=5', RUNS)
option('mmdet', 'train_cfg.val_begin=late', 'train_cfg & val_begin')
option('mmdet', 'train_cfg.val_intervall=1', 'train_cfg & val_intervall')
option('mmdet', 'train_cfg.type=EpochBasedTrainLop', 'train_cfg & EpochBasedTrainLoop')
option('mmdet', 'train_cfg.max_iters=4', 'train_cfg & max_iters')
option('mmdet', 'train_cfg=None', 'train_cfg')
option('mmdet', 'train_cfg=12', 'train_cfg')
config('mmdet', 'train_cfg = dict(by_epoch=True, max_epochs=1)', RUNS)
config('mmdet', 'train_cfg = dict(by_epoch=False, max_epochs=1)', 'train_cfg & max_(epochs|iters)')
config('mmdet', 'del train_cfg', 'train_cfg')
config('mmdet', "train_cfg['dynamic_intervals'] = [(1, 1)]", RUNS)
config('mmdet', "train_cfg['dynamic_intervals'] = 3", 'train_cfg & dynamic_intervals')
option('mmdet', 'val_cfg=None', 'val_cfg|val_dataloader|val_evaluator')
option('mmdet', 'val_cfg.type=ValLop', 'val_cfg & ValLoop')
option('mmdet', 'val_cfg.fp16=True', 'val_cfg.fp16')
config('mmdet', 'val_cfg = dict()', RUNS)
config('mmdet', 'test_cfg = test_dataloader = test_evaluator = None', RUNS)

# ----------------------------------------------------------------------------- hooks
HOOKS = 'default_hooks'
NEVER = 'an interval of 0 would mean never, which -1 says'
option('mmdet', f'{HOOKS}.checkpoint.interval=0', f'{HOOKS}.checkpoint & interval', why=NEVER)
option('mmdet', f'{HOOKS}.checkpoint.interval=-1', RUNS, check=lambda run: run.result.iter == 2)
option('mmdet', f'{HOOKS}.checkpoint.interval=often', f'{HOOKS}.checkpoint & interval')
option('mmdet', f'{HOOKS}.checkpoint.save_best=auto', RUNS, check=lambda run: any(run.folder.glob('work/best_*.pth')))
option('mmdet', f'{HOOKS}.checkpoint.save_best=coco/bbox_mAP', RUNS, check=lambda run: any(run.folder.glob('work/best_*.pth')))
option('mmdet', f'{HOOKS}.checkpoint.save_best=mIoU', f'{HOOKS}.checkpoint & (save_best|mIoU)')
option('mmseg', f'{HOOKS}.checkpoint.type=CheckpointHook {HOOKS}.checkpoint.save_best=mIoU', RUNS, check=lambda run: any(run.folder.glob('work/best_*.pth')))
option('mmpretrain', f'{HOOKS}.checkpoint.save_best=accuracy/top1', RUNS)
option('mmpretrain', f'{HOOKS}.checkpoint.save_best=accuracy/top9', f'{HOOKS}.checkpoint & (save_best|top9)')
option('mmdet', f'{HOOKS}.checkpoint.rule=bigger {HOOKS}.checkpoint.save_best=coco/bbox_mAP', f'{HOOKS}.checkpoint & rule')
option('mmdet', f'{HOOKS}.checkpoint.rule=greater {HOOKS}.checkpoint.save_best=coco/bbox_mAP', RUNS)
option('mmdet', f'{HOOKS}.checkpoint.max_keep_ckpts=1', RUNS)
option('mmdet', f'{HOOKS}.checkpoint.max_keep_ckpts=two', f'{HOOKS}.checkpoint & max_keep_ckpts')
option('mmdet', f'{HOOKS}.checkpoint.max_keep_ckpt=2', f'{HOOKS}.checkpoint & max_keep_ckpt')
option('mmdet', f'{HOOKS}.checkpoint.type=CheckpontHook', f'{HOOKS}.checkpoint & CheckpointHook')
option('mmdet', f'{HOOKS}.checkpoint=None', RUNS, check=lambda run: run.result.iter == 2)
option('mmdet', f'{HOOKS}.checkpoint=5', f'{HOOKS}.checkpoint')
option('mmdet', f'{HOOKS}.checkpont.interval=1', f'{HOOKS}.checkpont')
option('mmdet', f'{HOOKS}.logger.interval=1', RUNS)
option('mmdet', f'{HOOKS}.logger.interval=0', f'{HOOKS}.logger & interval')
option('mmdet', f'{HOOKS}.logger.interval=some', f'{HOOKS}.logger & interval')
option('mmdet', f'{HOOKS}.logger.type=LogerHook', f'{HOOKS}.logger & LoggerHook')
option('mmdet', f'{HOOKS}.logger=None', RUNS)
option('mmdet', f'{HOOKS}.timer=None', RUNS)
option('mmdet', f'{HOOKS}.visualization.type=DetVisualisationHook', f'{HOOKS}.visualization & DetVisualizationHook')
option('mmdet', f'{HOOKS}.visualization.draw=True', RUNS)
option('mmdet', f'{HOOKS}.visualization.interval=0 {HOOKS}.visualization.draw=True', f'{HOOKS}.visualization & interval')
option('mmdet', f'{HOOKS}=None', RUNS)
option('mmdet', f'{HOOKS}=3', HOOKS)
config('mmdet', "custom_hooks = [dict(type='EMAHook')]", RUNS)
config('mmdet', "custom_hooks = [dict(type='EMAHook', momentum=2)]", 'custom_hooks & momentum')
config('mmdet', "custom_hooks = [dict(type='EMAHook', ema_type='MovingAverage')]", 'custom_hooks & MovingAverage')
config('mmdet', "custom_hooks = [dict(type='EMAHok')]", 'custom_hooks & EMAHook')
config('mmdet', "custom_hooks = [dict(type='NumClassCheckHook')]", RUNS)
config('mmdet', "custom_hooks = [dict(priority=50)]", 'custom_hooks & type')
config('mmdet', "custom_hooks = dict(type='EMAHook')", 'custom_hooks')
config('mmdet', "custom_hooks = ['EMAHook']", 'custom_hooks')
config('mmdet', 'custom_hooks = None', RUNS)
config('mmseg', "custom_hooks = [dict(type='EarlyStoppingHook', monitor='mIoU')]", RUNS)
config('mmseg', "custom_hooks = [dict(type='EarlyStoppingHook', monitor='mIOU')]", RUNS, says='mIOU')
config('mmseg', "custom_hooks = [dict(type='EarlyStoppingHook')]", 'custom_hooks & monitor')
config('mmseg', "custom_hooks = [dict(type='EMAHook', priority='SOON')]", 'custom_hooks & (priority|SOON)')
config('mmdet', "custom_imports = dict(imports=['mmvitx', 'no_such_package'])", 'no_such_package')
config('mmdet', "custom_imports = dict(imports=3)", 'custom_imports|imports')
config('mmdet', "custom_imports = dict(imports=['no_such_package'], allow_failed_imports=True)", RUNS)
config('mmdet', "custom_imports = 'mmvitx'", 'cannot be read & import_modules')

# ----------------------------------------------------------------------------- evaluators
option('mmdet', 'val_evaluator.metric=box', 'val_evaluator & (metric|box)')
option('mmdet', 'val_evaluator.metric=bbox', RUNS)
option('mmdet', 'val_evaluator.metric=[bbox,mask]', 'val_evaluator & (metric|mask)')
option('mmdet', 'val_evaluator.ann_file=none.json', 'val_evaluator & none.json')
option('mmdet', 'val_evaluator.ann_file=None', 'val_evaluator & ann_file|ground truth')
option('mmdet', 'val_evaluator.type=CocoMetrik', 'val_evaluator & CocoMetric')
option('mmdet', 'val_evaluator.classwise=True', RUNS)
option('mmdet', 'val_evaluator.clazzwise=True', 'val_evaluator & clazzwise')
option('mmdet', 'val_evaluator.format_only=True', 'val_evaluator & (format_only|outfile_prefix)')
option('mmdet', 'val_evaluator.iou_thrs=high', 'val_evaluator & iou_thrs')
option('mmdet', 'val_evaluator=None', 'val_evaluator')
option('mmdet', 'val_evaluator=[]', RUNS)
option('mmdet', 'val_evaluator=CocoMetric', 'val_evaluator')
config('mmdet', 'del val_evaluator', 'val_evaluator')
config('mmdet', 'val_evaluator = [val_evaluator]', RUNS)
config('mmdet', "val_evaluator = dict(type='IoUMetric')", 'val_evaluator & IoUMetric')
config('mmdet', "val_evaluator = dict(type='VOCMetric', metric='mAP')", RUNS)
config('mmdet', "val_evaluator = dict(type='mmpretrain.Accuracy')", 'val_evaluator')
option('mmseg', 'val_evaluator.iou_metrics=[mDice]', RUNS)
option('mmseg', 'val_evaluator.iou_metrics=[mIou]', 'val_evaluator & (iou_metrics|mIou)')
option('mmseg', 'val_evaluator.ignore_index=0', RUNS)
option('mmseg', 'val_evaluator.type=IoUMetrics', 'val_evaluator & IoUMetric')
option('mmpretrain', 'val_evaluator.topk=5', 'val_evaluator & topk')
option('mmpretrain', 'val_evaluator.topk=(1,2)', RUNS)
option('mmpretrain', 'val_evaluator.topk=first', 'val_evaluator & topk')
config('mmpretrain', "val_evaluator = dict(type='SingleLabelMetric', items=['precision', 'f1-score'])", RUNS)
config('mmpretrain', "val_evaluator = dict(type='SingleLabelMetric', items=['accuracy'])", 'val_evaluator & (items|accuracy)')

# ----------------------------------------------------------------------------- models
option('mmdet', 'model=3', 'model')
option('mmseg', 'model=None', 'model')
config('mmpretrain', 'del model', 'model')
option('mmdet', 'model.type=MaskRCN', 'model & MaskRCNN')
option('mmseg', 'model.type=EncoderDecodr', 'model & EncoderDecoder')
option('mmdet', 'model.type=EncoderDecoder', 'model & EncoderDecoder')
option('mmdet', 'model.backbone=None', 'model.backbone')
option('mmseg', 'model.backbone=None', 'model.backbone')
option('mmpretrain', 'model.backbone=resnet', 'model.backbone')
option('mmdet', 'model.backbone.type=ResNt', 'model.backbone & ResNet')
option('mmpretrain', 'model.backbone.type=None', 'model.backbone & type')
option('mmdet', 'model.backbone.depth=19', 'model.backbone & depth')
option('mmdet', 'model.backbone.out_indices=(0,1,2)', 'model.neck & in_channels|out_indices')
option('mmdet', 'model.backbone.out_indices=(0,1,2,5)', 'model.backbone & out_indices')
option('mmdet', 'model.backbone.frozen_stages=1', RUNS)
option('mmdet', 'model.backbone.frozen_stages=all', 'model.backbone & frozen_stages')
option('mmdet', 'model.backbone.with_cp=True', RUNS)
option('mmdet', 'model.backbone.norm_cfg.type=SyncBN', RUNS)
option('mmdet', 'model.backbone.norm_cfg.type=BatchNorm', 'model.backbone & BatchNorm')
option('mmdet', 'model.backbone.dpeth=18', 'model.backbone & dpeth')
option('mmpretrain', 'model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=none.pth', 'none.pth')
option('mmseg', 'model.backbone.init_cfg.type=Pretraind model.backbone.init_cfg.checkpoint=none.pth', 'none.pth')
config('mmdet', "model['backbone'] = dict({coat})\n{fits}", RUNS)
config('mmdet', "model['backbone'] = dict({coat})", 'model.neck & in_channels')
config('mmdet', "model['backbone'] = dict({coat})\nmodel['backbone']['type'] = 'CoaT'\n{fits}", 'model.backbone & mmvitx.CoaT')
config('mmdet', "model['backbone'] = dict({coat})\nmodel['backbone']['type'] = 'mmvitx.Coat'\n{fits}", 'model.backbone & mmvitx.CoaT')
config('mmdet', "model['backbone'] = dict({coat}, out_indices=(3, 4))\n{fits}", 'model.backbone & out_indices')
config('mmdet', "model['backbone'] = dict({coat}, drop_path_rate=2)\n{fits}", 'model.backbone & drop_path_rate')
config('mmdet', "model['backbone'] = dict({coat}, drop_path=0.2)\n{fits}", 'model.backbone & drop_path')
config('mmdet', "model['backbone'] = dict(_delete_=True, type='mmvitx.CoaT', arch='huge')", 'model.backbone & arch')
config('mmdet', "model['backbone'] = dict(_delete_=True, type='mmvitx.CaiT', arch=None)", 'model.backbone & arch')
config('mmdet', "model['backbone'] = dict(_delete_=True, type='mmvitx.CrossViT')", 'model.neck & in_channels')
config('mmdet', "model['backbone'] = dict({coat}, out_type='cls_token')\n{fits}", 'out_type|model.(backbone|neck)')
config('mmpretrain', "model['backbone'] = dict({coat}, out_type='cls_token')\ndel model['backbone']['_delete_']\nmodel['neck'] = None\nmodel['head']['in_channels'] = 128", RUNS)
option('mmdet', 'model.neck.in_channels=[8,16,32]', 'model.neck & in_channels')
option('mmdet', 'model.neck.in_channels=[8,16,32,65]', 'model.neck & in_channels')
option('mmdet', 'model.neck.in_channels=64', 'model.neck & in_channels')
option('mmdet', 'model.neck=None', 'model & (neck|in_channels)')
option('mmdet', 'model.neck.type=FPNN', 'model.neck & FPN')
option('mmdet', 'model.neck.num_outs=3', 'model.neck & num_outs')
option('mmdet', 'model.neck.out_channels=24', 'model & (in_channels|out_channels)')
option('mmpretrain', 'model.neck.type=GlobalAvgPooling', 'model.neck & GlobalAveragePooling')
option('mmdet', 'model.rpn_head.in_channels=17', 'model.rpn_head & in_channels')
option('mmdet', 'model.rpn_head.anchor_generator.scales=[]', 'model.rpn_head')
option('mmdet', 'model.rpn_head.anchor_generator.strides=[4,8]', 'model.rpn_head & (anchor_generator|strides)')
option('mmdet', 'model.rpn_head.loss_cls.type=FocalLos', 'model.rpn_head.loss_cls & FocalLoss')
option('mmdet', 'model.rpn_head.loss_cls.loss_weight=NaN', 'loss', why='the host trains to weights that are no numbers')
option('mmdet', 'model.roi_head.bbox_head.num_classes=2', 'model.roi_head.bbox_head.num_classes', why='the host takes the third class for background')
option('mmdet', 'model.roi_head.bbox_head.num_classes=5 model.roi_head.mask_head.num_classes=5 model.test_cfg.rcnn.score_thr=0.99', RUNS)
option('mmdet', 'model.roi_head.bbox_head.num_classes=three', 'model.roi_head.bbox_head & num_classes')
option('mmdet', 'model.roi_head.mask_head.num_classes=2', 'model.roi_head.mask_head & num_classes')
option('mmdet', 'model.roi_head.bbox_roi_extractor.featmap_strides=[4,8,16]', RUNS)
option('mmdet', 'model.roi_head.mask_head=None', 'mask_head|segm')
option('mmdet', 'model.data_preprocessor.mean=[1,2]', 'model.data_preprocessor & mean')
option('mmdet', 'model.data_preprocessor.mean=None', 'model.data_preprocessor & (mean|std)')
option('mmdet', 'model.data_preprocessor.mean=[a,b,c]', 'model.data_preprocessor & mean')
option('mmdet', 'model.data_preprocessor.std=[0,0,0]', 'std|NaN|infinite', why='the host trains to weights that are no numbers')
option('mmdet', 'model.data_preprocessor.std=[255] model.data_preprocessor.mean=[0]', RUNS)
option('mmdet', 'model.data_preprocessor.pad_size_divisor=0', 'model.data_preprocessor & pad_size_divisor')
option('mmdet', 'model.data_preprocessor.type=DetDataPreprocesor', 'model.data_preprocessor & DetDataPreprocessor')
option('mmdet', 'model.data_preprocessor.bgr_to_rgb=True model.data_preprocessor.rgb_to_bgr=True', 'model.data_preprocessor & (rgb_to_bgr|bgr_to_rgb)')
option('mmdet', 'model.test_cfg=None', 'model.test_cfg')
option('mmdet', 'model.train_cfg=None', 'model.train_cfg')
option('mmdet', 'model.test_cfg.rcnn.score_thr=high', 'model.test_cfg|score_thr')
option('mmdet', 'model.train_cfg.rpn.sampler.num=0', RUNS)
option('mmdet', 'model.train_cfg.rcnn.assigner.type=MaxIoUAsigner', 'model & MaxIoUAssigner')
option('mmseg', 'model.decode_head.num_classes=3', 'model.decode_head.num_classes')
option('mmseg', 'model.decode_head.num_classes=6', RUNS)
option('mmseg', 'model.decode_head.in_channels=32', 'model.decode_head & in_channels')
option('mmseg', 'model.decode_head.in_index=7', 'model.decode_head & index')
option('mmseg', 'model.decode_head.dropout_ratio=2', 'model.decode_head & dropout')
option('mmseg', 'model.decode_head.ignore_index=0', RUNS)
option('mmseg', 'model.decode_head.type=FCNHed', 'model.decode_head & FCNHead')
option('mmseg', 'model.test_cfg=None', 'model.test_cfg')
option('mmseg', 'model.test_cfg.mode=slide', 'model & test_cfg & stride')
option('mmseg', 'model.test_cfg.mode=slide model.test_cfg.crop_size=(32,32) model.test_cfg.stride=(16,16)', RUNS)
option('mmseg', 'model.test_cfg.mode=hole', 'model.test_cfg|mode')
option('mmseg', 'model.data_preprocessor.size=(32,32)', RUNS)
option('mmseg', 'model.data_preprocessor.size=None', 'model.data_preprocessor & size')
option('mmseg', 'model.data_preprocessor.size=(96,96)', RUNS)
AUX = "model['auxiliary_head'] = dict(type='FCNHead', in_channels=32, in_index=2, channels=8, num_convs=1, norm_cfg=norm_cfg, num_classes={})"
config('mmseg', AUX.format(4), RUNS)
config('mmseg', f"{AUX.format(2)}\nmodel['auxiliary_head']['loss_decode'] = dict(type='CrossEntropyLoss', use_sigmoid=False)", 'model.auxiliary_head')
config('mmseg', AUX.format(9), RUNS)
WEIGHTS = "model['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss', class_weight={})"
config('mmseg', WEIGHTS.format([1, 1, 1, 2]), RUNS)
config('mmseg', WEIGHTS.format([1, 1, 2]), 'class_weight')
config('mmseg', WEIGHTS.format(['a', 1, 1, 1]), 'class_weight')
option('mmpretrain', 'model.head.num_classes=2', 'model.head.num_classes')
option('mmpretrain', 'model.head.num_classes=7', RUNS)
option('mmpretrain', 'model.head.num_classes=-1', 'classes')
option('mmpretrain', 'model.head.in_channels=65', 'model.head & in_channels')
option('mmpretrain', 'model.head.topk=(1,5)', RUNS)
option('mmpretrain', 'model.head.cal_acc=True model.head.topk=(1,5)', 'model.head & topk')
option('mmpretrain', 'model.head.type=LinearClsHed', 'model.head & LinearClsHead')
option('mmpretrain', 'model.head=None', 'model.head')
option('mmpretrain', 'model.data_preprocessor.num_classes=10', RUNS)
MIX = "model['train_cfg'] = dict(augments=dict(type='Mixup', alpha={}))"
config('mmpretrain', MIX.format(0.8), RUNS)
config('mmpretrain', MIX.format(-1), 'model.train_cfg & alpha')
config('mmpretrain', f"{MIX.format(0.8)}\nmodel['data_preprocessor']['num_classes'] = 2", 'num_classes')
config('mmpretrain', f"{MIX.format(0.8)}\ndel model['data_preprocessor']['num_classes']", 'model.data_preprocessor & num_classes')

# ----------------------------------------------------------------------------- the rest of a config
option('mmdet', 'randomness.seed=-1', 'randomness & seed')
option('mmdet', 'randomness.seed=4294967296', 'randomness & seed')
option('mmdet', 'randomness.seed=lucky', 'randomness & seed')
option('mmseg', 'randomness.seed=0', RUNS)
option('mmseg', 'randomness.seed=None', RUNS)
option('mmseg', 'randomness.sead=3', 'randomness & sead')
option('mmpretrain', 'randomness=3', 'randomness')
option('mmpretrain', 'randomness.deterministic=True', RUNS)
option('mmdet', 'env_cfg.cudnn_benchmark=True', RUNS)
option('mmdet', 'env_cfg.mp_cfg.mp_start_method=thread', 'env_cfg & mp_start_method')
option('mmdet', 'env_cfg.mp_cfg.mp_start_method=spawn', RUNS)
option('mmdet', 'env_cfg=3', 'env_cfg')
option('mmdet', 'log_level=LOUD', 'log_level')
option('mmdet', 'log_level=WARNING', RUNS)
option('mmdet', 'log_level=3.5', 'log_level')
option('mmdet', 'log_processor.window_size=0', RUNS)
option('mmdet', 'log_processor.window_size=wide', 'log_processor & window_size')
option('mmdet', 'log_processor.type=LogProcesor', 'log_processor & LogProcessor')
option('mmdet', 'log_processor.by_epoch=False', RUNS)
option('mmdet', 'log_processor=None', RUNS)
option('mmdet', 'visualizer.type=DetLocalVisualiser', 'visualizer & DetLocalVisualizer')
option('mmdet', 'visualizer.vis_backends=None', RUNS)
option('mmdet', 'visualizer=None', RUNS)
option('mmdet', 'visualizer.vis_backends.0.type=LocalVizBackend', 'visualizer & LocalVisBackend')
config('mmseg', "visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='NoBackend')])", 'visualizer & NoBackend')
option('mmdet', 'launcher=pytorch', RUNS, why='--launcher decides, as in the tools of the hosts')
option('mmdet', 'launcher=ssh', RUNS, why='--launcher decides, as in the tools of the hosts')
option('mmdet', 'default_scope=mmdett', 'default_scope')
option('mmdet', 'default_scope=None', 'default_scope', why='the tools must know the host')
option('mmdet', 'default_scope=mmseg', 'mmseg|default_scope')
option('mmdet', 'auto_scale_lr.enable=True', RUNS)
option('mmdet', 'auto_scale_lr.enable=True auto_scale_lr.base_batch_size=0', 'auto_scale_lr & base_batch_size')
option('mmseg', 'auto_scale_lr.enable=True auto_scale_lr.base_batch_size=many', 'auto_scale_lr & base_batch_size')
option('mmdet', 'model_wrapper_cfg.type=Nope', RUNS)
option('mmdet', 'experiment_name=first', RUNS)
option('mmdet', 'cfg.model.type=MaskRCNN', RUNS, says='cfg')
option('mmdet', 'optim_wraper.optimizer.lr=0.1', 'optim_wrapper', why='a misspelt key leaves what was meant unset')
option('mmdet', 'learning_rate=0.1', RUNS, says='learning_rate')
option('mmdet', 'model.bakbone.depth=18', 'model.bakbone')
option('mmdet', 'max_epochs=2', RUNS, says='max_epochs')
option('mmdet', 'runner_type=Runer', 'runner_type & Runner')
option('mmdet', 'runner_type=Runner', RUNS)
config('mmdet', 'resume = True', RUNS)
config('mmdet', "resume = True\nload_from = 'none.pth'", 'none.pth')
config('mmdet', 'raise ValueError(3)', 'ValueError')
config('mmdet', 'x = (', 'tiny_mmdet.py')
config('mmdet', 'from torch import nothing_there', 'nothing_there')
config('mmdet', "_base_.append('none.py')", 'tiny_mmdet.py')
config('mmdet', "train_cfg = dict(max_epochs=1, by_epoch=True, val_interval=1)\nval_cfg = test_cfg = dict()\nlog_level = 'ERROR'", RUNS)

# ----------------------------------------------------------------------------- checkpoints
option('mmdet', 'load_from=none.pth', 'none.pth')
option('mmdet', 'load_from={checkpoint}', RUNS)
option('mmdet', 'load_from={base}/mmpretrain/work/epoch_1.pth', RUNS, says=r'takes \d+ of \d+ tensors')
option('mmseg', 'load_from={config}', 'load_from|tiny_mmseg.py')
option('mmseg', 'load_from={folder}', 'load_from|folder')
option('mmseg', 'load_from=mmvitx://no_such_model', 'no_such_model')
option('mmpretrain', 'load_from=/proc/self/mem', '/proc/self/mem')
option('mmpretrain', 'load_from=3', 'load_from')
option('mmpretrain', 'load_from=mmvitx://coat_lite_smal', 'coat_lite_small')


def file(name: str, content: Any) -> Callable[[Path], None]:
    """Give a function that writes a file among the data: bytes, or what torch saves."""

    def write(root: Path) -> None:
        if isinstance(content, bytes):
            root.joinpath(name).write_bytes(content)
        else:
            import torch

            torch.save(content, root / name)

    return write


WEIGHT = '--cfg-options load_from={data}/a.pth'
data('mmdet', 'an empty checkpoint', file('a.pth', b''), 'a.pth', words=WEIGHT)
data('mmdet', 'a checkpoint that is text', file('a.pth', b'hello'), 'a.pth', words=WEIGHT)
data('mmdet', 'a truncated checkpoint', file('a.pth', b'PK\3\4' + bytes(900)), 'a.pth', words=WEIGHT)
data('mmdet', 'a checkpoint that is a list', file('a.pth', [1, 2]), 'a.pth', words=WEIGHT)
data('mmdet', 'a checkpoint without weights', file('a.pth', {'state_dict': {}}), 'a.pth', words=WEIGHT, why='the host loads nothing of it without a word')
data('mmseg', 'a checkpoint with a number for weights', file('a.pth', {'state_dict': 3}), 'a.pth', words=WEIGHT)
data('mmseg', 'a checkpoint of None', file('a.pth', None), 'a.pth', words=WEIGHT)
data('mmpretrain', 'an image for a checkpoint', lambda root: shutil.copy(root / 'images/0.png', root / 'a.pth'), 'a.pth', words=WEIGHT)
command('train {config} --work-dir {work} --resume {checkpoint} --cfg-options optim_wrapper.optimizer.type=SGD', 'optimizer')
command('train {config} --work-dir {work} --resume {checkpoint} --cfg-options train_cfg.max_epochs=2', RUNS, check=lambda run: run.result.iter == 4)
command('train {config} --work-dir {work} --resume none.pth', 'none.pth')
command('train {config} --work-dir {work} --resume', RUNS, check=trained)
command('train {config} --work-dir {work} --resume {base}/mmseg/work/epoch_1.pth', 'epoch_1.pth')
command('train {config} --work-dir {work} --resume {checkpoint}', RUNS, check=lambda run: run.result.iter == 2)
command('train {config} --work-dir {work} --resume {checkpoint} --cfg-options train_dataloader.batch_size=4 train_cfg.max_epochs=2', RUNS)

# ----------------------------------------------------------------------------- COCO files


def coco(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    """Give a function that changes the content of the COCO file."""

    def write(root: Path) -> None:
        content = json.loads((root / 'coco.json').read_text())
        change(content)
        (root / 'coco.json').write_text(json.dumps(content))

    return write


def first(**values: Any) -> Callable[[Path], None]:
    """Set keys of the first annotation; Ellipsis deletes one."""
    return coco(lambda content: _set(content['annotations'][:1], values))


def every(**values: Any) -> Callable[[Path], None]:
    return coco(lambda content: _set(content['annotations'], values))


def image(**values: Any) -> Callable[[Path], None]:
    """Set keys of the first image's entry."""
    return coco(lambda content: _set(content['images'][:1], values))


def _set(entries, values):
    for entry in entries:
        entry.update(values)
        for key in [key for key, value in entry.items() if value is ...]:
            del entry[key]



def counted(words: str) -> str:
    """Give the pattern of a line that counts what was found."""
    return rf'(?m)^(?=.*({words})).*: [\d,]+ \(first: '


SAID = 'mended, and counted in the log'
NAN, INF = float('nan'), float('inf')
RLE = dict(size=[32, 32], counts=[0, 1024])
SQUARE = [[2, 2, 22, 2, 22, 22, 2, 22]]
data('mmdet', 'a box outside its image', first(bbox=[100, 100, 20, 20]), RUNS, says=counted('outside'))
data('mmdet', 'a box partly outside', first(bbox=[50, 50, 40, 40]), RUNS)
data('mmdet', 'a box of no size', first(bbox=[5, 5, 0, 0]), RUNS, says=counted('smaller than a pixel'))
data('mmdet', 'a box of negative size', first(bbox=[5, 5, -4, 9]), RUNS, says=counted('smaller than a pixel'))
data('mmdet', 'a box with NaN', first(bbox=[NAN, 5, 9, 9]), RUNS, says=counted('finite'), why=SAID)
data('mmdet', 'a box with infinity', first(bbox=[5, 5, INF, 9]), RUNS, says=counted('finite'), why=SAID)
data('mmdet', 'a box of three numbers', first(bbox=[5, 5, 9]), RUNS, says=counted('boxes'), why=SAID)
data('mmdet', 'a box of text', first(bbox=['a', 5, 9, 9]), RUNS, says=counted('boxes'), why=SAID)
data('mmdet', 'no bbox', first(bbox=...), RUNS, says=counted('boxes that are missing'), why=SAID)
data('mmdet', 'no bbox anywhere, nor polygons', every(bbox=..., segmentation=...), 'holds no object')
data('mmdet', 'no category_id', first(category_id=...), RUNS, says=counted('category_id'), why=SAID)
data('mmdet', 'no image_id', first(image_id=...), RUNS, says=counted('image_id'), why=SAID)
data('mmdet', 'no area', every(area=...), RUNS, why=SAID)
data('mmdet', 'no iscrowd', every(iscrowd=...), RUNS, why=SAID)
data('mmdet', 'no segmentation with masks', first(segmentation=...), RUNS, says=counted('segmentation|mask'), why=SAID)
data('mmdet', 'no annotation ids', every(id=...), RUNS, why=SAID)
data('mmdet', 'all boxes outside', every(bbox=[100, 100, 20, 20]), 'usable|outside|no object', why=LOST)
data('mmdet', 'an unknown category', first(category_id=77), RUNS, says=counted('categor'))
data('mmdet', 'a category as text', first(category_id='1'), RUNS, says=counted('categor'), why=SAID)
data('mmdet', 'all categories unknown', every(category_id=77), 'categor', why=LOST)
data('mmdet', 'category ids from 0', coco(lambda c: (_set(c['categories'], {}), [x.update(id=x['id'] - 1) for x in c['categories']], [x.update(category_id=x['category_id'] - 1) for x in c['annotations']])), RUNS)
data('mmdet', 'categories in another order', coco(lambda c: c['categories'].reverse()), 'classes|order|categories', why='the host takes one class for another')
data('mmdet', 'a category less in the file', coco(lambda c: (c['categories'].pop(), c.update(annotations=[x for x in c['annotations'] if x['category_id'] < 3]))), RUNS, why=SAID)
data('mmdet', 'more categories in the file', coco(lambda c: c['categories'].append(dict(id=4, name='disc'))), RUNS)
data('mmdet', 'two categories of one name', coco(lambda c: c['categories'].append(dict(id=4, name='bar'))), 'categor|bar|classes', why='the host gives one class two labels')
data('mmdet', 'categories without names', coco(lambda c: _set(c['categories'], dict(name=...))), 'categor')
data('mmdet', 'no categories', coco(lambda c: c.pop('categories')), 'categories')
data('mmdet', 'an unknown image', first(image_id=77), RUNS, says=counted('image'))
data('mmdet', 'image ids as text', coco(lambda c: ([x.update(id=str(x['id'])) for x in c['images']], [x.update(image_id=str(x['image_id'])) for x in c['annotations']])), RUNS, why=SAID)
data('mmdet', 'an RLE of another size', first(segmentation=RLE), RUNS, says=counted('run-length .* of another size'), why=SAID)
data('mmdet', 'an RLE', first(segmentation=dict(size=[64, 64], counts=[100, 300, 3696])), RUNS)
data('mmdet', 'an RLE without counts', first(segmentation=dict(size=[64, 64])), RUNS, says=counted('run-length'), why=SAID)
data('mmdet', 'a polygon of two points', first(segmentation=[[1, 1, 9, 9]]), RUNS, says=counted('polygon'), why=SAID)
data('mmdet', 'a polygon of odd length', first(segmentation=[[1, 1, 9, 1, 9, 9, 1]]), RUNS, says=counted('polygon'))
data('mmdet', 'an empty polygon', first(segmentation=[]), RUNS, says=counted('polygon|mask|segmentation'), why=SAID)
data('mmdet', 'a polygon with NaN', first(segmentation=[[NAN, 1, 9, 1, 9, 9]]), RUNS, says=counted('finite coordinates'), why=SAID)
data('mmdet', 'a polygon with infinity', first(segmentation=[[INF, 1, 9, 1, 9, 9]]), RUNS, says=counted('finite coordinates'), why=SAID)
data('mmdet', 'a polygon outside its image', first(segmentation=[[100, 100, 120, 100, 120, 120]]), RUNS)
data('mmdet', 'a polygon as text', first(segmentation='square'), RUNS, says=counted('polygon|mask|segmentation'), why=SAID)
data('mmdet', 'duplicate annotation ids', every(id=1), RUNS, says=counted('id'), why=SAID)
data('mmdet', 'duplicate image ids', coco(lambda c: c['images'][1].update(id=0)), RUNS, says=counted('id'))
data('mmdet', 'crowds', first(iscrowd=1, segmentation=dict(size=[64, 64], counts=[0, 900, 3196])), RUNS)
data('mmdet', 'only crowds', every(iscrowd=1), 'holds no object', why=LOST)
data('mmdet', 'crowds as polygons', first(iscrowd=1), RUNS)
data('mmdet', 'another width than the file', image(width=640), RUNS, says=counted('width|size'))
data('mmdet', 'height and width exchanged', coco(lambda c: _set(c['images'], dict(width=32))), RUNS, says=counted('width|size'))
data('mmdet', 'no width', image(width=...), RUNS, says=counted('width|size'), why=SAID)
data('mmdet', 'a height as text', image(height='64'), RUNS, why=SAID)
data('mmdet', 'no file_name', image(file_name=...), RUNS, says=counted('file_name'), why=SAID)
data('mmdet', 'an image that is not there', image(file_name='none.png'), 'none.png')
data('mmdet', 'a first image without boxes', coco(lambda c: c.update(annotations=[x for x in c['annotations'] if x['image_id']])), RUNS)
data('mmdet', 'a first image without boxes, filtered', coco(lambda c: c.update(annotations=[x for x in c['annotations'] if x['image_id']])), RUNS, words='--cfg-options train_dataloader.dataset.filter_cfg.filter_empty_gt=True')
data('mmdet', 'no annotations', coco(lambda c: c.update(annotations=[])), 'holds no object', why=LOST)
data('mmdet', 'no images', coco(lambda c: c.update(images=[])), 'holds no image')
data('mmdet', 'no images and annotations keys', coco(lambda c: (c.pop('images'), c.pop('annotations'))), 'images|annotations')
data('mmdet', 'annotations of null', coco(lambda c: c.update(annotations=None)), 'annotations')
data('mmdet', 'a list for a COCO file', lambda root: (root / 'coco.json').write_text('[]'), 'coco.json')
data('mmdet', 'an empty COCO file', lambda root: (root / 'coco.json').write_text(''), 'coco.json')
data('mmdet', 'a truncated COCO file', lambda root: (root / 'coco.json').write_text((root / 'coco.json').read_text()[:999]), 'coco.json')
data('mmdet', 'a byte order mark', lambda root: (root / 'coco.json').write_text((root / 'coco.json').read_text(), 'utf-8-sig'), RUNS, why=SAID)
data('mmdet', 'UTF-16', lambda root: (root / 'coco.json').write_text((root / 'coco.json').read_text(), 'utf-16'), RUNS, why=SAID)
data('mmdet', 'an image_info file in the test', lambda root: (root / 'info.json').write_text(json.dumps({k: v for k, v in json.loads((root / 'coco.json').read_text()).items() if k != 'annotations'})), RUNS, words='--cfg-options test_dataloader.dataset.ann_file=info.json')
data('mmdet', 'ids as fractions', first(category_id=1.0), RUNS)

# ----------------------------------------------------------------------------- images


def picture(pixels: Any, name: str = 'images/0.png', suffix: str = '.png') -> Any:
    """Give a function that replaces an image; the name may lie about the format."""

    def write(root: Path) -> None:
        root.joinpath(name).write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())

    return write


def rotated(root: Path) -> None:
    """Make all images JPEGs that are stored on their side, annotated as they are stored."""
    from PIL import Image

    content = json.loads((root / 'coco.json').read_text())
    for entry in content['images']:
        exif = Image.Exif()
        exif[0x0112] = 6
        name = entry['file_name'].replace('png', 'jpg')
        with Image.open(root / 'images' / entry['file_name']) as stored:
            stored.crop((0, 0, 64, 48)).save(root / 'images' / name, exif=exif)
        entry.update(file_name=name, height=48)
    (root / 'coco.json').write_text(json.dumps(content))


GREY = np.full((64, 64), 99, np.uint8)
GIF = base64.b64decode('R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs=')
for host in 'mmdet', 'mmseg', 'mmpretrain':
    data(host, 'a text file called 0.png', file('images/0.png', b'hello'), '0.png')
    data(host, 'an empty image', file('images/0.png', b''), '0.png')
    data(host, 'a grey image', picture(GREY), RUNS)
    data(host, 'an image of 16 bits', picture(GREY.astype(np.uint16) * 200), RUNS)
    data(host, 'an image with transparency', picture(np.full((64, 64, 4), 99, np.uint8)), RUNS)
    data(host, 'a JPEG called 0.png', picture(np.full((64, 64, 3), 99, np.uint8), suffix='.jpg'), RUNS)
data('mmdet', 'a truncated image', lambda root: (root / 'images/0.png').write_bytes((root / 'images/0.png').read_bytes()[:2000]), '0.png', why='half of an image is no image')
data('mmdet', 'a folder called 0.png', lambda root: ((root / 'images/0.png').unlink(), (root / 'images/0.png').mkdir()), '0.png')
data('mmdet', 'an image of one pixel', lambda root: (picture(GREY[:1, :1])(root), image(width=1, height=1)(root)), RUNS)
data('mmdet', 'a GIF', file('images/0.png', GIF), RUNS, says=counted('width|size'))
data('mmdet', 'rotated JPEGs annotated in their stored frame', rotated, RUNS, says='turned by EXIF', why=SAID)
data('mmdet', 'images that are gone', lambda root: shutil.rmtree(root / 'images'), 'images')
data('mmdet', 'a missing first image, ignored', lambda root: (root / 'images/0.png').unlink(), RUNS, words='--cfg-options train_dataloader.dataset.pipeline.0.ignore_empty=True val_dataloader.dataset.indices=[1,2,3]', says='0.png')
data('mmpretrain', 'an image of one pixel', picture(GREY[:1, :1]), RUNS)
data('mmpretrain', 'images that are gone', lambda root: shutil.rmtree(root / 'images'), 'images')

# ----------------------------------------------------------------------------- label maps
VOID = np.full((64, 64), 200, np.uint8)


def maps(pixels: Any) -> Callable[[Path], None]:
    """Give a function that replaces all label maps."""

    def write(root: Path) -> None:
        for path in root.glob('masks/*.png'):
            cv2.imwrite(str(path), pixels)

    return write


data('mmseg', 'a label that is no class', picture(VOID, 'masks/0.png'), 'num_classes|ignore_index|label')
data('mmseg', 'a void label that is no class', lambda root: [cv2.imwrite(str(p), np.where(cv2.imread(str(p), 0) > 0, cv2.imread(str(p), 0), 4).astype(np.uint8)) for p in root.glob('masks/*.png')], 'ignore_index')
data('mmseg', 'label maps of 255', maps(np.full((64, 64), 255, np.uint8)), 'hold no label', why='the host trains without a word on no pixels')
data('mmseg', 'one label map of 255', picture(np.full((64, 64), 255, np.uint8), 'masks/0.png'), RUNS)
data('mmseg', 'a batch of ignored labels with class weights', picture(np.full((64, 64), 255, np.uint8), 'masks/0.png'), 'class_weight', lines=WEIGHTS.format([1, 1, 1, 2]) + "\ntrain_dataloader['batch_size'] = 1\nmodel['backbone']['norm_eval'] = True")
data('mmseg', 'a colour label map', picture(np.dstack([GREY // 40] * 3), 'masks/0.png'), 'masks/0.png|colour|channel')
data('mmseg', 'label maps of 16 bits', maps(np.ones((64, 64), np.uint16)), RUNS)
data('mmseg', 'a label map of another size', picture(GREY[:32, :32] // 50, 'masks/0.png'), '0.png|size')
data('mmseg', 'a label map of one pixel', lambda root: (picture(GREY[:1, :1] // 50, 'masks/0.png')(root), picture(GREY[:1, :1])(root)), '0.png')
data('mmseg', 'a label map that is text', file('masks/0.png', b'hello'), 'masks/0.png')
data('mmseg', 'a missing label map', lambda root: (root / 'masks/0.png').unlink(), '0.png')
data('mmseg', 'a missing image', lambda root: (root / 'images/0.png').unlink(), RUNS)
data('mmseg', 'no images', lambda root: [p.unlink() for p in root.glob('images/*')], 'images|img_suffix')
data('mmseg', 'labels remapped after loading', maps(np.full((64, 64), 13, np.uint8)), RUNS, lines="for each in train_dataloader, val_dataloader:\n    each['dataset'].update(type='CityscapesDataset', seg_map_suffix='.png', metainfo=dict(classes=('car', 'road', 'sky', 'person')))")
data('mmseg', 'labels that begin at 1', maps(np.full((64, 64), 4, np.uint8)), RUNS, words='--cfg-options train_dataloader.dataset.reduce_zero_label=True val_dataloader.dataset.reduce_zero_label=True train_dataloader.dataset.pipeline.1.reduce_zero_label=True val_dataloader.dataset.pipeline.1.reduce_zero_label=True')
data('mmseg', 'a list of names', lambda root: (root / 'names.txt').write_text('0\n1\n2\n'), RUNS, words='--cfg-options train_dataloader.dataset.ann_file=names.txt')
data('mmseg', 'a list of names with suffixes', lambda root: (root / 'names.txt').write_text('0.png\n1.png\n'), '0.png|ann_file|img_suffix', words='--cfg-options train_dataloader.dataset.ann_file=names.txt')
data('mmseg', 'an empty list', lambda root: (root / 'names.txt').write_text(''), 'names.txt|no image', words='--cfg-options train_dataloader.dataset.ann_file=names.txt')

# ----------------------------------------------------------------------------- class folders and lists


def listed(text: str) -> Callable[[Path], None]:
    return lambda root: (root / 'classes.txt').write_text(text)


def folders(*names: str) -> Callable[[Path], None]:
    """Give a function that puts the images into class folders; a name with / is left empty."""

    def write(root: Path) -> None:
        for name in names:
            (root / 'images' / name).mkdir(parents=True)
        full = [name for name in names if '/' not in name and not name.startswith('.')]
        for i in range(4):
            (root / f'images/{i}.png').rename(root / 'images' / full[i % len(full)] / f'{i}.png')

    return write


FOLDERS = "for each in train_dataloader, val_dataloader:\n    each['dataset'].update(ann_file='')"
data('mmpretrain', 'class folders', folders('square', 'bar', 'plate'), RUNS, lines=FOLDERS + "\n    each['dataset']['metainfo']['classes'] = ('bar', 'plate', 'square')")
data('mmpretrain', 'class folders in another order than the classes', folders('square', 'bar', 'plate'), 'classes|order', lines=FOLDERS, why='the host takes one class for another')
data('mmpretrain', 'class folders, one of other programs', folders('square', 'bar', 'plate', '.ipynb_checkpoints'), 'alphabetical', lines=FOLDERS)
data('mmpretrain', 'class folders, none named', folders('b', 'a', 'c'), RUNS, lines=FOLDERS + "\n    del each['dataset']['metainfo']")
data('mmpretrain', 'a class folder less', folders('square', 'bar'), 'folder|class', lines=FOLDERS)
data('mmpretrain', 'a class folder more', folders('square', 'bar', 'plate', 'disc'), 'subfolders', lines=FOLDERS)
data('mmpretrain', 'no class folders', lambda root: None, 'images|class', lines=FOLDERS)
data('mmpretrain', 'a label too large', listed('0.png 0\n1.png 3\n2.png 1\n3.png 2\n'), 'classes.txt|num_classes')
data('mmpretrain', 'a negative label', listed('0.png 0\n1.png -1\n2.png 1\n3.png 2\n'), 'classes.txt|num_classes|label')
data('mmpretrain', 'a label of text', listed('0.png 0\n1.png bar\n2.png 1\n'), 'classes.txt|ann_file|label')
data('mmpretrain', 'a line without a label', listed('0.png 0\n1.png\n2.png 1\n'), 'classes.txt|ann_file|label')
data('mmpretrain', 'an empty line', listed('0.png 0\n\n1.png 1\n'), 'classes.txt|ann_file')
data('mmpretrain', 'names with spaces', lambda root: ((root / 'images/0.png').rename(root / 'images/a b.png'), listed('a b.png 0\n1.png 1\n')(root)), RUNS)
data('mmpretrain', 'tabs', listed('0.png\t0\n1.png\t1\n'), 'classes.txt|ann_file')
data('mmpretrain', 'an empty list', listed(''), 'classes.txt|no image')
data('mmpretrain', 'a listed image that is not there', listed('0.png 0\nnone.png 1\n'), 'none.png')
data('mmpretrain', 'one class alone', listed('0.png 0\n1.png 0\n'), RUNS)
data('mmpretrain', 'a list with carriage returns', listed('0.png 0\r\n1.png 1\r\n2.png 2\r\n'), RUNS)
data('mmpretrain', 'a list without labels', listed('0.png\n1.png\n'), 'classes.txt|ann_file|label')

# ----------------------------------------------------------------------------- tools
command('train {config} --work-dir {work} --seed -1', 'seed')
command('train {config} --work-dir {work} --seed 4294967296', 'seed')
command('train {config} --work-dir {work} --seed lucky', '--seed')
command('train {config} --work-dir {work} --seed 7', RUNS, check=trained)
command('train {config} --work-dir {work} --amp', '--amp')
command('train {config} --work-dir {work} --auto-scale-lr', RUNS, check=trained)
command('train {config} --work-dir {work} --from-scratch', RUNS, check=trained)
command('train {config} --work-dir {work} --no-nan-check', RUNS, check=trained)
config('mmdet', "runner_type = 'FlexibleRunner'\nstrategy = dict(type='SingleDeviceStrategy')", RUNS)
command('train {config} --work-dir {work} --check', RUNS, ', with a FlexibleRunner', lines="runner_type = 'FlexibleRunner'\nstrategy = dict(type='SingleDeviceStrategy')")
command('train {config} --work-dir {work} --check', RUNS, check=lambda run: not any(run.folder.glob('work/*.pth')))
command('train {config} --work-dir {work} --no-check', RUNS, check=trained)
command('train {config} --work-dir {work} --check --cfg-options model.neck.num_outs=3 train_dataloader.batch_size=0', 'num_outs')
command('train {config} --work-dir {config}', '--work-dir')
command('train {config} --work-dir /proc/work', '--work-dir')
command('train {config} --work-dir {config}/work', '--work-dir')
command('train {config} --data-root {base}/data --work-dir {work}', RUNS, check=trained)
command('train {config} --data-root /nowhere --work-dir {work}', '/nowhere & --data-root')
command('train {config} --data-root {folder} --work-dir {work}', 'coco.json')
command('train {config} --launcher pytorch', '--launcher')
command('train {config} --launcher ssh', '--launcher')
command('train {config} --cfg-options a b', '--cfg-options')
command('train {config} --cfg-options "x=[1,"', '--cfg-options')
command('train {config} --learning-rate 0.1', '--learning-rate')
command('train', 'config')
command('train none.py', 'none.py')
command('train {base}/data', 'config')
command('train {base}/data/coco.json', 'coco.json')
command('train mmdet::none.py', 'none.py')
command('train mmcls::resnet/resnet18_8xb32_in1k.py', 'mmcls')
command('train {config} --backbone resnet50', 'resnet50')
command('train {config} --backbone coat_lite_tiny --work-dir {work} --from-scratch', RUNS, check=trained)
command('train {config} --backbone coat_lite_tinny --work-dir {work}', 'coat_lite_tiny')

TEST = 'test {config} {checkpoint} --work-dir {work}'
for host in 'mmdet', 'mmseg', 'mmpretrain':
    command(TEST, RUNS, host=host, check=lambda run: run.result)
    command(f'{TEST} --out {{folder}}/a.pkl', RUNS, host=host, check=lambda run: (run.folder / 'a.pkl').stat().st_size)
    command(f'{TEST} --show-dir {{folder}}/show', RUNS, host=host, check=lambda run: any(run.folder.glob('show/**/*.png')))
command(f'{TEST} --classwise', RUNS)
command(f'{TEST} --tta', RUNS)
command(f'{TEST} --cfg-options tta_pipeline=None', RUNS)
command(f'{TEST} --out {{folder}}', '--out')
command(f'{TEST} --out /proc/a.pkl', '--out')
command(f'{TEST} --out {{config}}/a.pkl', '--out')
command(f'{TEST} --out {{folder}}/a.txt', '--out')
command(f'{TEST} --show-dir {{config}}', '--show-dir')
command(f'{TEST} --show-dir /proc/show', '--show-dir')
command(f'{TEST} --allow-missing', RUNS)
command(f'{TEST} --cfg-options test_dataloader.batch_size=0', 'test_dataloader.batch_size')
command(f'{TEST} --cfg-options test_evaluator.metric=box', 'test_evaluator')
command(f'{TEST} --cfg-options test_evaluator=None', 'test_evaluator')
command(f'{TEST} --cfg-options test_dataloader.dataset.ann_file=none.json', 'none.json')
command(f'{TEST} --cfg-options test_dataloader.dataset.pipeline=[]', 'test_dataloader.dataset.pipeline')
command('test {config} none.pth', 'none.pth')
command('test {config} {base}/mmseg/work/epoch_1.pth --work-dir {work}', 'epoch_1.pth')
command('test {config} {config} --work-dir {work}', 'tiny_mmdet.py')
command('test {config} --work-dir {work}', 'checkpoint', why='random weights are nothing to evaluate')
command('test {base}/mmdet/work', RUNS, check=lambda run: run.result)
command('test {config} {checkpoint} --work-dir {config}', '--work-dir')

for host in 'mmdet', 'mmseg', 'mmpretrain':
    command('browse {config} --work-dir {work}', RUNS, host=host, check=lambda run: len([*run.folder.glob('work/samples_*.jpg')]) >= 2)
command('browse {config} --work-dir {work} --speed --samples 2', RUNS, says='images')
command('browse {config} --work-dir {work} --speed --samples 0', '--samples')
command('browse {config} --work-dir {work} --samples -3', '--samples')
command('browse {config} --work-dir {work} --split exam', '--split')
command('browse {config} --work-dir {config}', '--work-dir')
command('browse {config} --work-dir {work} --cfg-options train_dataloader.dataset.ann_file=none.json', 'none.json')
command('browse none.py', 'none.py')


def log(text: str) -> Callable[[Path], None]:
    """Give a function that writes the log of a training."""

    def write(root: Path) -> None:
        (root / '2026/vis_data').mkdir(parents=True)
        (root / '2026/vis_data/scalars.json').write_text(text)

    return write


LINES = '{"loss": 2.0, "step": 1}\n{"loss": 1.0, "step": 2}\n{"coco/bbox_mAP": 0.5, "step": 2}\n'
CURVES = dict(check=lambda run: (run.folder / 'data/curves.png').exists())
command('report {base}/mmdet/work', RUNS, check=lambda run: 'curves.png' in run.output)
command('report {base}/mmdet/work {base}/mmdet/work', RUNS, says='comparison.png')
command('report {data}', RUNS, spoil=log(LINES), **CURVES)
command('report {data} --show-dir {data}/images', RUNS, spoil=log(LINES), **CURVES)
command('report {data} --show-dir {folder}/none', 'none|--show-dir', spoil=log(LINES))
command('report {data}', note=', the log: a line that is cut off', expect=RUNS, spoil=log(LINES + '{"loss": 1'), **CURVES)
command('report {data}', note=', the log: no JSON', expect='log|loss', spoil=log('hello\n'))
command('report {data}', note=', the log: empty', expect='log|loss', spoil=log(''))
command('report {data}', note=', the log: without losses', expect=RUNS, says='loss', spoil=log('{"lr": 0.1, "step": 1}\n'))
command('report {data}', note=', the log: lines that are no objects', expect=RUNS, spoil=log(LINES + '3\n[]\n"a"\n'), says='3 .*line', **CURVES)
command('report {data}', note=', the log: a line without a step', expect=RUNS, spoil=log(LINES + '{"loss": 1.0}\n'), says='1 .*line', **CURVES)
command('report {data}', note=', the log: a loss that is text', expect=RUNS, spoil=log(LINES + '{"loss": "low", "step": 3}\n'), says='1 .*line', **CURVES)
command('report {folder}', 'log')
command('report {config}', 'tiny_mmdet.py')
command('report none', 'none')
command('report', 'WORK_DIR')

command('make_digits --out {folder}/digits --train 4 --val 2', RUNS, check=lambda run: any(run.folder.rglob('*.json')))
command('make_digits classification --out {folder}/digits --train 20 --val 10', RUNS)
command('make_digits --out {folder}/digits --train 0', '--train')
command('make_digits --out {folder}/digits --train -5', '--train')
command('make_digits --out {folder}/digits --train 2 --val 0', '--val')
command('make_digits --out {folder}/digits --train many', '--train')
command('make_digits --out {config} --train 2 --val 2', '--out|tiny_mmdet.py')
command('make_digits --out /proc/digits --train 2 --val 2', '--out|/proc')
command('make_digits letters', 'letters')
command('make_digits --out {folder}/digits --train 2 --val 2 --seed -1', '--seed')

command('get_flops coat_lite_tiny --size 64', RUNS, says='coat_lite_tiny')
command('get_flops coat_lite_tinny', 'coat_lite_tiny')
command('get_flops coat_lite_tiny --size 0', '--size')
command('get_flops coat_lite_tiny --size 64 64 64', '--size')
command('get_flops coat_lite_tiny --size big', '--size')
command('get_flops coat_lite_tiny --dense --size 1 1', RUNS)
command('get_flops cait_xxs24 --size 33 65', RUNS)

command('export coat_lite_tiny --out {folder}/a.txt', 'a.txt|--out')
command('export coat_lite_tiny', '--out')
command('export coat_lite_tinny --out {folder}/a.pt2', 'coat_lite_tiny')
command('export coat_lite_tiny --out /proc/a.pt2', '/proc/a.pt2')
command('export coat_lite_tiny --out {folder}/a.pt2 --checkpoint none.pth', 'none.pth')
command('export coat_lite_tiny --out {folder}/a.pt2 --out-indices 9', 'out_indices|--out-indices')
command('export coat_lite_tiny --out {folder}/a.pt2 --out-type map', '--out-type')
command('export coat_lite_tiny --out {folder}/a.pt2 --opset 17', '--opset')
command('export coat_lite_tiny --out {folder}/a.onnx --opset 1', '--opset|opset')
command('export coat_lite_tiny --out {folder}/a.pt2 --cfg-options no_such=1', 'no_such')
command('export coat_lite_tiny --out {folder}/a.pt2 --cfg-options drop_path_rate=x', 'drop_path_rate')
command('export coat_lite_tiny --out {folder}/a.pt2 --checkpoint {checkpoint}', 'epoch_1.pth')

command('convert_checkpoint none.pth {folder}/b.pth', 'none.pth')
command('convert_checkpoint {checkpoint} {folder}/b.pth', 'epoch_1.pth')
command('convert_checkpoint {config} {folder}/b.pth', 'tiny_mmdet.py')
command('convert_checkpoint mmvitx://coat_lite_smal {folder}/b.pth', 'coat_lite_small')
command('convert_checkpoint {checkpoint} /proc/b.pth', '/proc')
command('convert_checkpoint {checkpoint} {config}', 'tiny_mmdet.py')
command('convert_checkpoint {checkpoint}', 'OUT')
command('convert_checkpoint {folder} {folder}/b.pth', 'folder|directory')

command('check_parity {root}/tests/data/parity/coat_lite_tiny.json', RUNS, says='ok')
command('check_parity {config}', 'tiny_mmdet.py')
command('check_parity none.json', 'none.json')
command('check_parity {base}/data/coco.json', 'coco.json')
command('check_parity {root}/tests/data/parity/coat_lite_tiny.json --tolerance small', '--tolerance')
command('check_parity', 'FILE')
data('mmpretrain', 'class folders, none named, one of other programs', folders('b', 'a', 'c', '.ipynb_checkpoints'), RUNS, lines=FOLDERS + "\n    del each['dataset']['metainfo']\nmodel['head']['num_classes'] = 4")
option('mmdet', 'model.roi_head.mask_head.num_classes=5 model.roi_head.bbox_head.num_classes=5', 'num_classes')

# fmt: on


def prepare(base: Path) -> None:
    """Write the tiny data, and train each host's model on them, for what needs a checkpoint."""
    from attempts import attempt
    from conftest import write_data

    write_data(base / 'data')
    for host in 'mmdet', 'mmseg', 'mmpretrain':
        (base / host).mkdir()
        outcome = attempt(ROWS[f'{host}: # as it is'], base / host, base)
        assert outcome.kind == 'runs' and outcome.passed, outcome.output


def main() -> None:
    parser = argparse.ArgumentParser(description='Run rows of the table of inputs.')
    parser.add_argument('pattern', nargs='?', default='', help='of the names of rows')
    parser.add_argument('--judge', action='store_true', help='run the hosts, not our tools')
    parser.add_argument('--keep', metavar='DIR', help='an empty folder for outputs, which stay')
    args = parser.parse_args()
    from attempts import OK, attempt, judge

    base = Path(args.keep or tempfile.mkdtemp()).resolve()
    prepare(base)
    rows = [row for row in ROWS.values() if re.search(args.pattern, row.what)]
    if args.judge:  # the host's own tools take these words alone
        plain = re.compile(r'(\{\w+\} )+--work-dir \{work\} *(--cfg-options .*)?$')
        rows = [row for row in rows if row.tool in ('train', 'test') and plain.match(row.words)]

    def run(numbered):
        i, row = numbered
        folder = base / f'row{i}'
        folder.mkdir()
        return attempt(row, folder, base, args.judge)

    with ThreadPoolExecutor(2) as pool:
        for i, (row, outcome) in enumerate(zip(rows, pool.map(run, enumerate(rows)))):
            expect = row.expect or 'RUNS'
            if args.judge:
                agree = (outcome.kind == 'runs') == (row.expect is RUNS)
                mark = '' if agree else 'reason: ' + row.why if row.why else '??'
            else:
                verdict = judge(row, outcome)
                mark = '' if verdict == OK else verdict
            came = outcome.kind if outcome.passed else f'{outcome.kind}, failed its check'
            print(i, row.what, '|', expect, '|', came, outcome.text, '|', mark, flush=True)
    if not args.keep:
        shutil.rmtree(base)


if __name__ == '__main__':
    main()
