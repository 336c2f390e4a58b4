# COCO with the label maps that tools/dataset_converters/coco_instances_to_semantic.py makes of its
# instance annotations: the 80 things of COCO-Stuff, whose palette and augmentation mmseg has.
_base_ = 'mmseg::_base_/datasets/coco-stuff164k.py'

dataset = dict(
    data_root='data/',
    seg_map_suffix='.png',
    metainfo=dict(classes='data/coco_semantic/train2017/classes.txt'),
)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix=dict(img_path='coco/train2017', seg_map_path='coco_semantic/train2017'),
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='coco/val2017', seg_map_path='coco_semantic/val2017'),
        **dataset,
    ),
)
test_dataloader = val_dataloader
