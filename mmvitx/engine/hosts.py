"""What differs between the three hosts for the tools; nothing of a host is imported here."""

from __future__ import annotations

from typing import NamedTuple


class Host(NamedTuple):
    """The names by which a host goes in configs."""

    title: str
    distribution: str  # as pip knows it
    head: str  # key of the model under which num_classes counts the classes of the data
    labels: str  # where a packed sample has its labels
    dump: str  # metric that writes the predictions to a file
    visualizer: str
    hook: dict  # that draws every image of the test set, without its output folder
    tta_model: dict
    tta_meta: tuple[str, ...]  # what a merging model asks of its views


META = ('img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')

# by default_scope
HOSTS = {
    'mmdet': Host(
        title='MMDetection',
        distribution='mmdet',
        head='bbox_head',
        labels='gt_instances.labels',
        dump='mmdet.DumpDetResults',
        visualizer='mmdet.DetLocalVisualizer',
        hook=dict(type='mmdet.DetVisualizationHook', draw=True),
        tta_model=dict(
            type='DetTTAModel',  # no mmdet. before it: mmdet puts it into mmengine's registry
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
        tta_meta=('img_id', *META),
    ),
    'mmseg': Host(
        title='MMSegmentation',
        distribution='mmsegmentation',
        head='decode_head',
        labels='gt_sem_seg.data',
        dump='mmengine.DumpResults',
        visualizer='mmseg.SegLocalVisualizer',
        hook=dict(type='mmseg.SegVisualizationHook', draw=True, interval=1),
        tta_model=dict(type='mmseg.SegTTAModel'),
        tta_meta=('seg_map_path', 'pad_shape', 'reduce_zero_label', *META),
    ),
    'mmpretrain': Host(
        title='MMPretrain',
        distribution='mmpretrain',
        head='head',
        labels='gt_label',
        dump='mmengine.DumpResults',
        visualizer='mmpretrain.UniversalVisualizer',
        hook=dict(type='mmpretrain.VisualizationHook', enable=True, interval=1),
        tta_model=dict(type='mmpretrain.AverageClsScoreTTA'),
        tta_meta=('sample_idx', *META),
    ),
}
