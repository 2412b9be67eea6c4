let damaged = ModelError("the image is damaged")

/// Throws ModelError for an image, as it is or resized, of more pixels than 64 million.
func checkSize(width: Int, height: Int) throws {
    let (pixels, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, pixels <= 64_000_000 else {
        throw ModelError("the image has more than 64 megapixels, or would be resized to as many")
    }
}
