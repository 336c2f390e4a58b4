# COCO's boxes and masks as the host loads and packs them, with the augmentation of mstrain.py.
_base_ = ['mmdet::_base_/datasets/coco_instance.py', './mstrain.py']

train_pipeline = [*_base_.train_pipeline[:2], *_base_.mstrain, _base_.train_pipeline[-1]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
