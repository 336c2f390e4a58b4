# ADE20K as mmseg has it, with the 2 images on each of 8 GPUs that the schedules are meant for.
_base_ = 'mmseg::_base_/datasets/ade20k.py'

train_dataloader = dict(batch_size=2)
