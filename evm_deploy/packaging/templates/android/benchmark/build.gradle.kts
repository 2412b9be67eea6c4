plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "org.evmdeploy.benchmark"
    compileSdk = @COMPILE_SDK@

    defaultConfig {
        applicationId = "org.evmdeploy.benchmark"
        minSdk = @MIN_SDK@
        targetSdk = @COMPILE_SDK@
        versionCode = 1
        versionName = "@VERSION@"
    }

    buildTypes {
        release {
            // Signed as a debug build is, so that it can be installed at once: it is for measuring, not for a shop.
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation(project(":model"))
}
