# The tables are read from the Avro schemas that the stack registers, so there is no second list of columns to keep.

locals {
  schemas = {
    usage        = "usage"
    responses    = "response"
    audit        = "audit"
    waste        = "waste"
    credits      = "credit"
    shadows      = "shadow"
    dead_letters = "dead_letter"
    batches      = "batch"
    limits       = "limit"
  }

  glue_types = {
    string           = "string"
    bytes            = "binary"
    int              = "int"
    long             = "bigint"
    boolean          = "boolean"
    double           = "double"
    timestamp-millis = "timestamp"
  }

  snowflake_types = {
    string    = "VARCHAR"
    binary    = "BINARY"
    int       = "INTEGER"
    bigint    = "BIGINT"
    boolean   = "BOOLEAN"
    double    = "DOUBLE"
    timestamp = "TIMESTAMP_NTZ"
  }

  tables = {
    for table, schema in local.schemas : table => [
      for field in jsondecode(file("${path.module}/../../schemas/avro/${schema}.avsc")).fields : {
        name    = field.name
        # A field that may be null is a list of null and its type.
        type    = local.glue_types[try(field.type.logicalType, try(field.type[1], field.type))]
        comment = substr(try(field.doc, ""), 0, 255)
      }
    ]
  }
}

resource "aws_glue_catalog_database" "lake" {
  name        = var.database
  description = "Millrace: usage, responses and audit as Parquet, by hour."
}

resource "aws_glue_catalog_table" "lake" {
  for_each = local.tables

  name          = each.key
  database_name = aws_glue_catalog_database.lake.name
  table_type    = "EXTERNAL_TABLE"

  # Partitions are computed from the query, so nothing has to announce a new hour.
  parameters = {
    "EXTERNAL"                  = "TRUE"
    "classification"            = "parquet"
    "projection.enabled"        = "true"
    "projection.dt.type"        = "date"
    "projection.dt.format"      = "yyyy-MM-dd"
    "projection.dt.range"       = "${var.first_day},NOW"
    "projection.hour.type"      = "integer"
    "projection.hour.range"     = "0,23"
    "projection.hour.digits"    = "2"
    "storage.location.template" = "s3://${aws_s3_bucket.lake.bucket}/${each.key}/dt=$${dt}/hour=$${hour}"
  }

  partition_keys {
    name = "dt"
    type = "string"
  }

  partition_keys {
    name = "hour"
    type = "string"
  }

  storage_descriptor {
    location      = "s3://${aws_s3_bucket.lake.bucket}/${each.key}/"
    input_format  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"

    ser_de_info {
      serialization_library = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    }

    dynamic "columns" {
      for_each = each.value

      content {
        name    = columns.value.name
        type    = columns.value.type
        comment = columns.value.comment
      }
    }
  }
}
