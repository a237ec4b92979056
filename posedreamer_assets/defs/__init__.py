"""The Dagster layer, one small file for each stage, in the order of the data.

body_model, pose_library, rendered_scenes, control_checkpoint, preference_pairs, dpo_checkpoint, rounds (control_maps,
raw_generations, sample_scores, filtered_dataset), difficulty_model, hard_samples, dataset, quality_report, checks.

What starts them: arrivals (sensor on pose files), growth (schedule), automation (conditions). How they run: deployment
(settings), executors, retries, notifications, maintenance. What they share: work, partitions, resources.
"""
