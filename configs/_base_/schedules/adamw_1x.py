# The detection recipe of CoaT's authors (tasks/mmdet/configs/coat/ of mlpc-ucsd/CoaT): 8 GPUs x 2
# images, in mixed precision. Warm-up and steps are the host's.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
