"""What a run is configured by: `profile.py` reads profiles, the other files say what each section holds."""

from posedreamer_assets.config.bodies import YOUNGEST_YEARS, BodyConfig, CameraConfig, PosesConfig, ScenesConfig
from posedreamer_assets.config.captioning import CaptionsConfig
from posedreamer_assets.config.judging import (
    CounterConfig,
    CurationConfig,
    CurriculumConfig,
    DetectorConfig,
    NetworkConfig,
    QualityConfig,
    RoundConfig,
)
from posedreamer_assets.config.painting import AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.config.profile import (
    Profile,
    load_profile,
    profile_names,
    profile_to_dict,
    save_profile,
    study_names,
)
from posedreamer_assets.config.profile_paths import PROFILES_DIR, WEIGHTS_DIR, is_shipped, local_path, write_whole
from posedreamer_assets.config.studying import (
    LEAST_STAND_IN_PX,
    CrowdsConfig,
    LearningToTrainConfig,
    MixedConfig,
    PhotosConfig,
    Pose2dConfig,
    StudentsConfig,
    StyleConfig,
    TeacherConfig,
    UserTestSet,
)

__all__ = [
    "AlignmentConfig",
    "BodyConfig",
    "CameraConfig",
    "CaptionsConfig",
    "CounterConfig",
    "CrowdsConfig",
    "CurationConfig",
    "CurriculumConfig",
    "DetectorConfig",
    "GeneratorConfig",
    "ImageConfig",
    "LEAST_STAND_IN_PX",
    "LearningToTrainConfig",
    "MixedConfig",
    "NetworkConfig",
    "PROFILES_DIR",
    "PhotosConfig",
    "Pose2dConfig",
    "PosesConfig",
    "Profile",
    "QualityConfig",
    "RoundConfig",
    "ScenesConfig",
    "StudentsConfig",
    "StyleConfig",
    "UserTestSet",
    "TeacherConfig",
    "WEIGHTS_DIR",
    "YOUNGEST_YEARS",
    "is_shipped",
    "load_profile",
    "local_path",
    "profile_names",
    "profile_to_dict",
    "save_profile",
    "study_names",
    "write_whole",
]
