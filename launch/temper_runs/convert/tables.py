# SPDX-License-Identifier: Apache-2.0
"""Every key that is known of the other trainers, and what becomes of it.

Sources: transformers 5 TrainingArguments; TRL 1 SFTConfig, ModelConfig and ScriptArguments;
LLaMA-Factory's hparams; Axolotl's configuration reference.
"""

from .rules import Always, Flag, InPart, No, Number, Table, Text

BOARD = "launch/board writes the curves for TensorBoard, Weights & Biases and MLflow"
HUB = "temper uploads nothing; final/ is a folder that huggingface-cli upload takes"
SPEED = "how the work is done; temper has its own way"
LOADER = "data.loader_threads and data.prefetch are temper's, and change no result"
PREPARE = "datasets/prepare.py decides it by itself, and keeps the result in shards"
STEPS = "temper counts in steps: set train.evaluate_every_steps or checkpoint.every_steps"
REGULAR = "temper has no such regularisation"
RESUME = "temper goes on from its own checkpoints by itself (checkpoint.resume)"
OTHER_METHOD = "a method that temper does not have: full, lora, qlora, prefix, prompt, bottleneck"
PRECISION = "temper computes in float32 or bfloat16 (model.dtype)"
CODE = "temper knows the families by itself and runs no code of a model"
PADDING = "temper packs without padding"
EVALUATED = "an evaluation takes the batches of training, and changes no result by them"
REWARD = "of preference or reward training, which temper does not have"
LENGTHS = "rows are packed by length and their order is drawn from data.seed"


def all_no(why: str, *keys: str) -> Table:
    return {key: No(why) for key in keys}


def in_part(*keys: str) -> Table:
    return {key: InPart() for key in keys}


# transformers' TrainingArguments, which TRL and LLaMA-Factory have, too.
TRAINING_ARGUMENTS: Table = {
    "output_dir": Text("run.folder"),
    "learning_rate": Number("optimizer.learning_rate"),
    "weight_decay": Number("optimizer.weight_decay"),
    "adam_beta1": Number("optimizer.beta1"),
    "adam_beta2": Number("optimizer.beta2"),
    "adam_epsilon": Number("optimizer.epsilon"),
    "max_grad_norm": Number("train.max_grad_norm"),
    "activation_checkpointing": Flag("train.recompute"),
    "logging_steps": Number("train.log_every_steps"),
    "save_total_limit": Number("checkpoint.keep"),
    "average_tokens_across_devices": Always(True, "temper's loss is the mean over all targets"),
    "use_cache": Always(False, "no cache is kept in training"),
    "label_smoothing_factor": Always(0, REGULAR),
    "neftune_noise_alpha": No(REGULAR),
    "do_train": Always(True, "temper train trains"),
    "do_predict": Always(False, "temper generate answers prompts"),
    "fp16_full_eval": Always(False, PRECISION),
    "group_by_length": Always(False, LENGTHS),
    "train_sampling_strategy": Always("random", LENGTHS),
    "dataloader_drop_last": Always(False, "the rows of an epoch's end go on into the next"),
    **in_part(
        "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs",
        "max_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio",
        "optim", "bf16", "fp16", "seed", "data_seed", "eval_strategy", "evaluation_strategy",
        "eval_steps", "save_strategy", "save_steps", "load_best_model_at_end", "do_eval",
        "metric_for_best_model", "deepspeed", "fsdp", "fsdp_config", "resume_from_checkpoint",
        "use_cpu", "gradient_checkpointing",
    ),
    **all_no(BOARD, "report_to", "run_name", "project", "logging_dir", "trackio_space_id",
             "trackio_bucket_id", "trackio_static_space_id", "include_num_input_tokens_seen",
             "logging_strategy", "logging_first_step", "log_level", "log_level_replica",
             "log_on_each_node", "logging_nan_inf_filter", "disable_tqdm"),
    **all_no(HUB, "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy",
             "hub_always_push", "hub_revision"),
    **all_no(SPEED, "tf32", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs",
             "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel",
             "liger_kernel_config", "torch_empty_cache_steps", "auto_find_batch_size",
             "accelerator_config", "parallelism_config", "ddp_find_unused_parameters",
             "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend",
             "ddp_timeout", "skip_memory_metrics", "local_rank", "full_determinism",
             "save_safetensors", "save_on_each_node", "save_only_model", "enable_jit_checkpoint"),
    **all_no(LOADER, "dataloader_num_workers", "dataloader_pin_memory", "dataloader_in_order",
             "dataloader_persistent_workers", "dataloader_prefetch_factor",
             "dataloader_multiprocessing_context"),
    **all_no(PREPARE, "remove_unused_columns", "label_names", "length_column_name"),
    **all_no(EVALUATED, "per_device_eval_batch_size", "eval_delay", "prediction_loss_only",
             "eval_on_start", "eval_do_concat_batches", "eval_use_gather_object",
             "eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics",
             "bf16_full_eval"),
    **all_no(RESUME, "ignore_data_skip", "overwrite_output_dir",
             "restore_callback_states_from_checkpoint"),
    **all_no("only AdamW is there, with the betas and epsilon above", "optim_args",
             "optim_target_modules"),
    "greater_is_better": Always(False, "the best is the one with the lowest loss"),
    "debug": No(SPEED),
}  # fmt: skip

LORA: Table = {
    "lora_alpha": Number("lora.alpha"),
    "lora_dropout": Number("lora.dropout"),
    "use_rslora": Flag("lora.use_rslora"),
    "use_dora": Flag("lora.use_dora"),
}

TRL: Table = {
    **TRAINING_ARGUMENTS, **LORA,
    "model_name_or_path": Text("model.path"),
    "max_length": Number("data.sequence_length"),
    "max_seq_length": Number("data.sequence_length"),
    "lora_r": Number("lora.rank"),
    "loss_type": Always("nll", "temper's loss is the cross entropy"),
    "assistant_only_loss": Always(True, "of conversations the answers alone are learnt"),
    "completion_only_loss": Always(True, "of prompt and completion the completion is learnt"),
    "shuffle_dataset": Always(True, "the order of rows is always drawn from data.seed"),
    "truncation_mode": Always("keep_start", "what is longer than a row is cut at its end"),
    "lora_task_type": Always("CAUSAL_LM", "temper trains causal models"),
    "model_revision": Always("main", "temper reads a folder: fetch that revision into it"),
    "load_in_8bit": Always(False, "of quantised bases temper has four bits (method qlora)"),
    **in_part("use_peft", "load_in_4bit", "lora_target_modules", "lora_modules_to_save",
              "bnb_4bit_quant_type", "use_bnb_nested_quant", "dtype", "torch_dtype", "packing",
              "dataset_name", "dataset_train_split", "dataset_test_split", "chat_template_path"),
    **all_no(PREPARE, "dataset_text_field", "dataset_kwargs", "dataset_num_proc", "eos_token",
             "pad_token", "dataset_config", "dataset_streaming", "dataset_batch_size"),
    **all_no(PADDING, "packing_strategy", "padding_free", "pad_to_multiple_of", "eval_packing"),
    **all_no(SPEED, "attn_implementation", "activation_offloading", "bnb_4bit_quant_storage",
             "model_init_kwargs", "gradient_checkpointing_use_reentrant"),
    **all_no(CODE, "trust_remote_code"),
    "lora_target_parameters": No("lora adapts linear modules: lora.targets"),
    "router_aux_loss_coef": No("of mixtures of experts, which temper does not have"),
    "ignore_bias_buffers": No(SPEED),
    "datasets": No("a mixture: list the shards of each under data.train, with weights"),
}  # fmt: skip

LLAMA_FACTORY: Table = {
    **TRAINING_ARGUMENTS, **LORA,
    "model_name_or_path": Text("model.path"),
    "cutoff_len": Number("data.sequence_length"),
    "lora_rank": Number("lora.rank"),
    "loraplus_lr_ratio": Number("lora.plus_ratio"),
    "adapter_name_or_path": Text("adapter.start"),
    "train_on_prompt": Always(False, "of conversations the answers alone are learnt"),
    "packing": InPart(),
    "neat_packing": Always(True, "attention never sees another document of the row"),
    "ignore_pad_token_for_loss": Always(True, PADDING),
    "streaming": Always(False, "shards are prepared once, and read as they are needed"),
    "pissa_convert": Always(True, "final/ of PiSSA is an ordinary LoRA of twice the rank"),
    "plot_loss": No("launch/report draws the curves"),
    **in_part("stage", "finetuning_type", "quantization_bit", "quantization_method",
              "quantization_type", "double_quantization", "lora_target", "additional_target",
              "pissa_init", "pissa_iter", "dataset", "dataset_dir", "template", "val_size",
              "eval_dataset", "mask_history", "pure_bf16", "enable_thinking", "mix_strategy",
              "interleave_probs"),
    **all_no(PREPARE, "overwrite_cache", "preprocessing_batch_size", "preprocessing_num_workers",
             "tokenized_path", "buffer_size", "media_dir", "tool_format", "max_samples",
             "eval_on_each_dataset", "eval_num_beams", "use_fast_tokenizer", "split_special_tokens",
             "dataset_shards", "data_shared_file_system"),
    **all_no("datasets/add_tokens.py adds tokens to a model's folder", "resize_vocab",
             "new_special_tokens_config", "add_tokens", "add_special_tokens"),
    **all_no(CODE, "trust_remote_code", "model_revision", "hf_hub_token", "cache_dir"),
    **all_no(SPEED, "flash_attn", "low_cpu_mem_usage", "use_unsloth", "enable_liger_kernel",
             "upcast_layernorm", "upcast_lmhead_output", "disable_gradient_checkpointing",
             "use_reentrant_gc", "device_map", "ray_run_name", "ray_storage_path",
             "ray_num_workers", "resources_per_worker", "placement_strategy", "use_kt",
             "shift_attn", "compute_accuracy", "include_effective_tokens_per_second"),
    **all_no(OTHER_METHOD, "freeze_trainable_layers", "freeze_trainable_modules",
             "freeze_extra_modules", "use_galore", "use_apollo", "use_badam", "use_llama_pro",
             "oft_rank", "oft_block_size", "oft_target", "module_dropout", "use_muon",
             "use_adam_mini", "mixture_of_depths", "moe_aux_loss_coef", "use_dft_loss",
             "use_asft_loss", "use_eaft_loss"),
    **all_no(REWARD, "pref_beta", "pref_ftx", "pref_loss", "ref_model", "reward_model",
             "ppo_epochs", "simpo_gamma", "dpo_label_smoothing", "kto_chosen_weight",
             "kto_rejected_weight"),
    **all_no("temper generate and temper export have options of their own", "do_sample",
             "temperature", "top_p", "top_k", "max_new_tokens", "export_dir", "export_size",
             "export_device", "infer_backend"),
    **all_no(BOARD, "use_swanlab", "swanlab_project", "swanlab_run_name", "swanlab_mode"),
    "rope_scaling": No("the model's config.json says it"),
    "loraplus_lr_embedding": No("lora.modules_to_save learns at the rate of all"),
    "create_new_adapter": Always(False, "an adapter is gone on with (adapter.start)"),
    "early_stopping_steps": InPart(),
}  # fmt: skip

AXOLOTL: Table = {
    "base_model": Text("model.path"),
    "output_dir": Text("run.folder"),
    "sequence_len": Number("data.sequence_length"),
    "learning_rate": Number("optimizer.learning_rate"),
    "weight_decay": Number("optimizer.weight_decay"),
    "adam_beta1": Number("optimizer.beta1"),
    "adam_beta2": Number("optimizer.beta2"),
    "adam_epsilon": Number("optimizer.epsilon"),
    "max_grad_norm": Number("train.max_grad_norm"),
    "logging_steps": Number("train.log_every_steps"),
    "save_total_limit": Number("checkpoint.keep"),
    "lora_r": Number("lora.rank"),
    "lora_alpha": Number("lora.alpha"),
    "lora_dropout": Number("lora.dropout"),
    "peft_use_rslora": Flag("lora.use_rslora"),
    "peft_use_dora": Flag("lora.use_dora"),
    "loraplus_lr_ratio": Number("lora.plus_ratio"),
    "lora_model_dir": Text("adapter.start"),
    "load_in_8bit": Always(False, "of quantised bases temper has four bits (method qlora)"),
    "train_on_inputs": Always(False, "of conversations the answers alone are learnt"),
    "group_by_length": Always(False, LENGTHS),
    "lora_fan_in_fan_out": Always(False, "of Conv1D modules, which the families do not have"),
    "auto_resume_from_checkpoints": Always(True, "an own checkpoint is always gone on from"),
    "flash_attention": No(SPEED),
    "strict": No("unknown keys are always errors here"),
    "is_llama_derived_model": No("the model's config.json says it"),
    **in_part("adapter", "load_in_4bit", "lora_target_linear", "lora_target_modules",
              "lora_modules_to_save", "peft_init_lora_weights", "peft_layers_to_transform",
              "lora_layers_to_transform", "micro_batch_size", "gradient_accumulation_steps",
              "batch_size", "num_epochs", "max_steps", "optimizer", "lr_scheduler",
              "lr_scheduler_kwargs", "cosine_min_lr_ratio", "warmup_steps", "warmup_ratio", "bf16",
              "bfloat16", "fp16", "float16", "seed", "eval_steps", "eval_strategy", "save_steps",
              "save_strategy", "load_best_model_at_end", "early_stopping_patience", "deepspeed",
              "fsdp", "fsdp_config", "datasets", "pretraining_dataset", "test_datasets",
              "val_set_size", "chat_template", "sample_packing",
              "gradient_checkpointing", "rl", "resume_from_checkpoint"),
    **all_no(STEPS, "evals_per_epoch", "saves_per_epoch"),
    **all_no(PREPARE, "dataset_prepared_path", "dataset_processes", "dataset_num_proc",
             "shuffle_merged_datasets", "dataset_exact_deduplication", "excess_length_strategy",
             "default_system_message", "push_dataset_to_hub", "dataset_shard_num", "streaming",
             "eot_tokens", "chat_template_jinja", "skip_prepare_dataset",
             "dataset_keep_in_memory", "roles_to_train"),
    **all_no(PADDING, "pad_to_sequence_len", "eval_sample_packing", "sample_packing_bin_size",
             "sample_packing_group_size", "sample_packing_sequentially", "multipack_real_batches",
             "batch_flattening"),
    **all_no("datasets/add_tokens.py adds tokens to a model's folder", "special_tokens", "tokens",
             "added_tokens_overrides", "resize_token_embeddings_to_32x"),
    **all_no(BOARD, "wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_run_id",
             "wandb_log_model", "wandb_mode", "mlflow_tracking_uri", "mlflow_experiment_name",
             "mlflow_run_name", "comet_api_key", "comet_project_name", "use_tensorboard",
             "use_wandb", "use_mlflow", "use_comet", "eval_table_size", "eval_max_new_tokens"),
    **all_no(HUB, "hub_model_id", "hub_strategy", "hf_use_auth_token"),
    **all_no(CODE, "trust_remote_code", "model_type", "tokenizer_type", "tokenizer_config",
             "tokenizer_use_fast", "base_model_config", "revision_of_model", "plugins",
             "is_mistral_derived_model", "is_falcon_derived_model", "is_qwen_derived_model",
             "processor_type", "tokenizer_legacy"),
    **all_no(SPEED, "tf32", "gradient_checkpointing_kwargs", "xformers_attention",
             "sdp_attention", "flex_attention", "attn_implementation", "eager_attention",
             "torch_compile", "torch_compile_backend", "lora_mlp_kernel", "lora_qkv_kernel",
             "lora_o_kernel", "unsloth_lora_mlp", "liger_rope", "liger_rms_norm",
             "liger_glu_activation", "liger_fused_linear_cross_entropy", "ddp_timeout",
             "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "gpu_memory_limit", "device_map",
             "low_cpu_mem_usage", "save_safetensors", "save_only_model", "save_first_step",
             "flash_attn_cross_entropy", "flash_attn_rms_norm", "flash_attn_fuse_mlp",
             "flash_attn_fuse_qkv", "dataloader_num_workers", "dataloader_pin_memory",
             "dataloader_prefetch_factor", "include_tokens_per_second", "local_rank", "debug",
             "eval_batch_size", "tensor_parallel_size", "context_parallel_size",
             "sequence_parallel_degree", "use_ray", "profiler_steps"),
    **all_no("train.max_skipped_in_a_row ends a run whose loss is not finite",
             "loss_watchdog_threshold", "loss_watchdog_patience"),
    **all_no(OTHER_METHOD, "relora_steps", "relora_warmup_steps", "lisa_n_layers",
             "lisa_step_interval", "lisa_layers_attribute", "qat", "quantization", "gptq",
             "unfrozen_parameters", "noisy_embedding_alpha", "reward_model"),
    "neftune_noise_alpha": No(REGULAR),
    "loraplus_lr_embedding": No("lora.modules_to_save learns at the rate of all"),
    "rope_scaling": No("the model's config.json says it"),
    "overrides_of_model_config": No("the model's config.json says it"),
    "lora_on_cpu": No(SPEED),
    "early_stopping_threshold": No("early_stop.min_gain is temper's"),
}  # fmt: skip

# What the others have where the file says nothing, and temper has otherwise or not at all.
TRAINER_DEFAULTS = {
    "optimizer.learning_rate": 5e-5, "optimizer.beta2": 0.999, "train.max_grad_norm": 1,
}  # fmt: skip
DEFAULTS = {
    "trl": {**TRAINER_DEFAULTS, "optimizer.learning_rate": 2e-5, "data.sequence_length": 1024,
            "run.folder": "runs/trl"},
    "llama-factory": {**TRAINER_DEFAULTS, "data.sequence_length": 2048,
                      "run.folder": "runs/llama-factory"},
    "axolotl": {**TRAINER_DEFAULTS, "data.sequence_length": 512, "run.folder": "model-out"},
}  # fmt: skip
LORA_DEFAULTS = {
    "trl": {"lora.rank": 16, "lora.alpha": 32, "lora.dropout": 0.05},
    "llama-factory": {"lora.rank": 8, "lora.dropout": 0},
    "axolotl": {"lora.dropout": 0},
}
TABLES = {"axolotl": AXOLOTL, "llama-factory": LLAMA_FACTORY, "trl": TRL}
