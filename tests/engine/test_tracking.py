"""The data of a tracker pass all checks."""

from __future__ import annotations

import json
import shutil

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmvitx.datasets.description import describe
from mmvitx.engine import preflight
from mmvitx.engine.mending import mend_data
from mmvitx.engine.samples import guard_samples
from mmvitx.engine.sheets import draw_sheet


def test_videos(tiny_data, tmp_path):
    (tmp_path / 'train').mkdir()
    for i in range(4):
        shutil.copy(tiny_data / f'images/{i}.png', tmp_path / 'train')
    video = dict(video_id=1, height=64, width=64)
    box = dict(video_id=1, category_id=1, bbox=[5, 5, 30, 40], area=1200, iscrowd=False)
    mot = dict(instance_id=0, visibility=1.0, mot_class_id=1, mot_conf=1.0)
    content = dict(
        categories=[dict(id=1, name='pedestrian')],
        videos=[dict(id=1, name='v1', fps=25, width=64, height=64)],
        images=[dict(id=i + 1, file_name=f'{i}.png', frame_id=i, **video) for i in range(4)],
        annotations=[dict(id=i + 1, image_id=i + 1, **box, **mot) for i in range(4)],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    load = [dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations')]
    dataset = dict(
        type='MOTChallengeDataset',
        data_root=str(tmp_path),
        ann_file='coco.json',
        data_prefix=dict(img_path='train'),
        metainfo=dict(classes=('pedestrian',)),
        pipeline=[
            dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=2),
            dict(type='TransformBroadcaster', transforms=load),
            dict(type='PackTrackInputs'),
        ],
    )
    sampler = dict(type='TrackImgSampler')  # of videos and frames
    loader = dict(batch_size=1, num_workers=0, sampler=sampler, dataset=dataset)
    bbox_head = dict(num_classes=1)
    model = dict(detector=dict(roi_head=dict(bbox_head=bbox_head)))
    cfg = Config(dict(default_scope='mmdet', model=model, train_dataloader=loader))

    assert preflight.check_settings(cfg) == []
    preflight.check_paths(cfg, ('train',))
    assert mend_data(cfg, ('train',), tmp_path) == ({}, [])
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        guard_samples(loader, cfg, 'train_dataloader', check=True)
        assert len(next(iter(loader))['data_samples']) == 1
    assert describe(loader.dataset, 'train') == ['train: 1 samples']
    assert len(draw_sheet(loader.dataset, 'mmdet', tmp_path / 'sheet.jpg')) == 2
